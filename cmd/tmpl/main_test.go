package main

import (
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tmpl": main})
}

type consulKey struct{}

// TestScripts runs testdata/*.txtar, which are also examples of use. Beside
// testscript's own commands, and those of scripttest, they have:
//
//	key NAME VALUE                     write a key of the stand-in agent
//	service NAME ID ADDR PORT STATUS   register an instance
//	fail STATUS                        answer everything with that status; 0 ends it
func TestScripts(t *testing.T) {
	commands := scripttest.Commands()
	commands["key"] = func(ts *testscript.TestScript, _ bool, a []string) { consul(ts).SetKey(a[0], a[1]) }
	commands["service"] = service
	commands["fail"] = func(ts *testscript.TestScript, _ bool, a []string) { consul(ts).Fail(scripttest.Number(ts, a[0])) }
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			consul := tmpltest.New()
			server := httptest.NewServer(consul)
			env.Defer(func() {
				server.CloseClientConnections()
				server.Close()
				scripttest.KillLeft(filepath.Join(env.WorkDir, "pid"))
			})
			env.Values[consulKey{}] = consul
			env.Setenv("CONSUL_HTTP_ADDR", server.URL)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each run
			return nil
		},
		Cmds: commands,
	})
}

func consul(ts *testscript.TestScript) *tmpltest.Consul {
	return ts.Value(consulKey{}).(*tmpltest.Consul)
}

func service(ts *testscript.TestScript, _ bool, a []string) {
	if len(a) != 5 {
		ts.Fatalf("usage: service NAME ID ADDR PORT STATUS")
	}
	consul(ts).SetService(a[0], a[1], a[2], scripttest.Number(ts, a[3]), a[4])
}
