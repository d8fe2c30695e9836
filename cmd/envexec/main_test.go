package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
	"github.com/muster-dev/muster/pkg/proc"
)

func TestMain(m *testing.M) {
	proc.GuardMain()
	testscript.Main(scripttest.WithAgent{M: m}, map[string]func(){"envexec": main})
}

// TestScripts runs testdata/*.txtar, which are also examples of use, each with a real
// agent. See package scripttest for the commands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { scripttest.KillLeft(filepath.Join(env.WorkDir, "pid")) })
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			return scripttest.StartAgent(env)
		},
		Cmds: scripttest.Commands(),
	})
}
