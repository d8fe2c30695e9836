package scripttest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Main is TestMain of a tool: scripts find it by that name, the agent, and fetch, all on
// PATH.
func Main(m *testing.M, name string, tool func()) {
	testscript.Main(withAgent{m}, map[string]func(){name: tool, "fetch": fetch})
}

// Run runs testdata/*.txtar, each with an agent of its own, in the folder that is HOME.
// What a script leaves in the files pid and pid2 is killed. prepare, which may be nil,
// comes before the agent; more are commands beside those of Commands.
func Run(t *testing.T, prepare func(*testscript.Env) error, more map[string]func(*testscript.TestScript, bool, []string)) {
	commands := Commands()
	maps.Copy(commands, more)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"pid", "pid2"} {
				env.Defer(func() { KillLeft(filepath.Join(env.WorkDir, name)) })
			}
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			env.Setenv("HOME", env.WorkDir)
			if prepare != nil {
				if err := prepare(env); err != nil {
					return err
				}
			}
			return startAgent(env)
		},
		Cmds: commands,
	})
}

// fetch is a program: METHOD PATH asks the agent's API and prints the answer.
func fetch() {
	if err := ask(os.Args[1], "http://"+os.Getenv("MUSTER_HTTP_ADDR")+os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(method, url string) error {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}
