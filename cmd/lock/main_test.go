package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
	"github.com/muster-dev/muster/pkg/proc"
)

func TestMain(m *testing.M) {
	proc.GuardMain()
	testscript.Main(scripttest.WithAgent{M: m}, map[string]func(){"lock": main, "fetch": fetch})
}

// TestScripts runs testdata/*.txtar, which are also examples of use, each with a real
// agent. See package scripttest for the commands; there is also
//
//	until_waiting PREFIX   wait until somebody waits for a lock
//	fetch METHOD PATH      ask the agent's API: a program, for children too
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

func fetch() {
	req, err := http.NewRequest(os.Args[1], "http://"+os.Getenv("MUSTER_HTTP_ADDR")+os.Args[2], nil)
	if err == nil {
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			_, err = io.Copy(os.Stdout, resp.Body)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
