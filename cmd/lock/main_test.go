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
	testscript.Main(scripttest.WithAgent{M: m}, map[string]func(){"lock": main})
}

// TestScripts runs testdata/*.txtar, which are also examples of use, each with a real
// agent. See package scripttest for the commands; there is also
//
//	until_waiting PREFIX   wait until somebody waits for a lock
func TestScripts(t *testing.T) {
	commands := scripttest.Commands()
	commands["until_waiting"] = untilWaiting
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"pid", "pid2"} {
				env.Defer(func() { scripttest.KillLeft(filepath.Join(env.WorkDir, name)) })
			}
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			return scripttest.StartAgent(env)
		},
		Cmds: commands,
	})
}

func untilWaiting(ts *testscript.TestScript, _ bool, a []string) {
	ts.Check(ts.Exec("sh", "-c", `for i in $(seq 200); do lock show "$1" | grep -q "^Waiter:" && exit 0; sleep 0.05; done; exit 1`, "sh", a[0]))
}
