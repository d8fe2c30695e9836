package envexec

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/tmpl/tmpltest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// fetch makes the variables of a plan, asked by long-polls as of a Consul.
func fetch(t *testing.T, consul *tmpltest.Consul, p Plan) (string, error) {
	t.Helper()
	server := httptest.NewServer(consul)
	defer server.Close()
	defer server.CloseClientConnections()
	c, err := client.New(client.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	vars, err := New(Config{Plan: p, Client: c, Logger: slog.New(slog.DiscardHandler)}).Fetch(t.Context())
	return strings.Join(env.Environ(vars), " "), err
}

func TestFetch(t *testing.T) {
	consul := tmpltest.New()
	for key, value := range map[string]string{
		"app/db-host": "pg", "app/sub/": "", "app": "itself", "app2/x": "no", "common/db-host": "old", "common/y": "1",
		"conf": `{"y": 2, "z": {"a": "b"}}`,
	} {
		consul.SetKey(key, value)
	}
	for _, tt := range []struct {
		plan Plan
		want string
	}{
		{Plan{}, ""},
		{Plan{Prefixes: []Prefix{{Path: "none"}}}, ""},
		{Plan{Prefixes: []Prefix{{Path: "/common/"}, {Path: "app"}}}, "db_host=pg y=1"},
		{Plan{Prefixes: []Prefix{{Path: "app"}, {Path: "common"}}}, "db_host=old y=1"},
		{Plan{Prefixes: []Prefix{{Path: "common//"}, {Path: "./x/../app/"}}}, "db_host=pg y=1"}, // as a server reads a path
		{Plan{Prefixes: []Prefix{{Path: "//common", Named: true}}}, "common_db_host=old common_y=1"},
		{Plan{Prefixes: []Prefix{{Path: "common", Named: true}}, JSON: []string{"conf"}}, "common_db_host=old common_y=1 y=2 z_a=b"},
	} {
		if got, err := fetch(t, consul, tt.plan); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v; want %q", tt.plan, got, err, tt.want)
		}
	}
	consul.SetKey("common/db/host", "twice")
	for _, plan := range []Plan{{Prefixes: []Prefix{{Path: "common"}}}, {JSON: []string{"none"}}, {JSON: []string{"app"}}} {
		if got, err := fetch(t, consul, plan); cli.Code(err) != cli.ExitRun {
			t.Errorf("%+v: %q, %v", plan, got, err)
		}
	}
	for _, plan := range []Plan{{Prefixes: []Prefix{{Path: "a@b@c"}}}, {Prefixes: []Prefix{{Path: "../agent"}}}, {JSON: []string{""}}, {Services: []Service{{Query: "web|any"}}}} {
		if _, err := fetch(t, consul, plan); cli.Code(err) != cli.ExitConfig || plan.Check() == nil {
			t.Errorf("%+v: %v", plan, err)
		}
	}
}
