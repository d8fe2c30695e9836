package main

import (
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
	"github.com/muster-dev/muster/pkg/proc"
)

func TestMain(m *testing.M) {
	proc.GuardMain()
	testscript.Main(scripttest.WithAgent{M: m}, map[string]func(){"watch": main})
}

// TestScripts runs testdata/*.txtar, which are also examples of use, each with a real
// agent. See package scripttest for the commands; there is also
//
//	fetch METHOD PATH   ask the agent's API
func TestScripts(t *testing.T) {
	commands := scripttest.Commands()
	commands["fetch"] = fetch
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { scripttest.KillLeft(filepath.Join(env.WorkDir, "pid")) })
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			env.Setenv("HOME", env.WorkDir)
			return scripttest.StartAgent(env)
		},
		Cmds: commands,
	})
}

func fetch(ts *testscript.TestScript, _ bool, a []string) {
	req, err := http.NewRequest(a[0], "http://"+ts.Getenv("MUSTER_HTTP_ADDR")+a[1], nil)
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	ts.Check(err)
	ts.Logf("%s", body)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s %s: %s", a[0], a[1], resp.Status)
	}
}
