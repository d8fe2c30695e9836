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
func TestMain(m *testing.M) { scripttest.Main(m, "muster-exec", main) }

// TestScripts runs testdata/*.txtar, which are also examples of use, each with a real
// agent that reads agent.hcl: see package scripttest for the commands.
func TestScripts(t *testing.T) {
	scripttest.Run(t, func(env *testscript.Env) error {
		env.Setenv("TERM", "dumb")
		bin := filepath.Join(env.WorkDir, "bin")
		env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
		if err := os.Mkdir(bin, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(bin, "exec"), []byte("#!/bin/sh\nexec muster-exec \"$@\"\n"), 0o755)
	}, nil)
}
