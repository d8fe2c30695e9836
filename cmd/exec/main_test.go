package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
)

// The scripts' own exec must stay what it is: the tool has another name for them,
// and is exec on PATH.
func TestMain(m *testing.M) {
	testscript.Main(scripttest.WithAgent{M: m}, map[string]func(){"muster-exec": main})
}

// TestScripts runs testdata/*.txtar, which are also examples of use, each with a real
// agent that reads agent.hcl. See package scripttest for the commands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { scripttest.KillLeft(filepath.Join(env.WorkDir, "pid")) })
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TERM", "dumb")
			bin := filepath.Join(env.WorkDir, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(bin, "exec"), []byte("#!/bin/sh\nexec muster-exec \"$@\"\n"), 0o755); err != nil {
				return err
			}
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			return scripttest.StartAgent(env)
		},
		Cmds: scripttest.Commands(),
	})
}
