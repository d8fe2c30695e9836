package operator

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
)

func TestInfoAndReload(t *testing.T) {
	info := func(ctx context.Context, c *client.Client, s streams) error { return Info(ctx, c, s.out) }
	reload := func(ctx context.Context, c *client.Client, s streams) error { return Reload(ctx, c, s.out) }
	testAll(t, []exchange{
		{name: "info", run: info, agent: map[string]reply{"GET /v1/agent/self": {body: `{"Config":{},"Coord":null,
			"Stats":{"serf_lan":{"members":"1","failed":"0"},"agent":{"checks":"2"}}}`}},
			out: "agent:\n\tchecks = 2\nserf_lan:\n\tfailed = 0\n\tmembers = 1\n"},
		{name: "no figures", run: info, agent: map[string]reply{"GET /v1/agent/self": {body: `{}`}},
			err: "Error querying Consul agent: its answer has no Stats"},
		{name: "refused", run: info, agent: map[string]reply{"GET /v1/agent/self": {code: 403, body: "Permission denied"}},
			err: "Error querying Consul agent: Unexpected response code: 403 (Permission denied)"},
		{name: "reload", run: reload, agent: map[string]reply{"PUT /v1/agent/reload": {}}, out: "Configuration reload triggered\n"},
		{name: "reload failed", run: reload, agent: map[string]reply{"PUT /v1/agent/reload": {code: 500, body: "failed to parse x"}},
			err: "Error reloading: Unexpected response code: 500 (failed to parse x)"},
	})
}

func TestMaint(t *testing.T) {
	maint := func(ch MaintChange) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error { return Maint(ctx, c, s.out, ch) }
	}
	self := reply{body: `{"Config":{"NodeName":"n1"}}`}
	testAll(t, []exchange{
		{name: "node", agent: map[string]reply{"PUT /v1/agent/maintenance?enable=true&reason=new+disk": {}},
			run: maint(MaintChange{Enable: true, Reason: "new disk"}), out: "Node maintenance is now enabled\n"},
		{name: "node back", agent: map[string]reply{"PUT /v1/agent/maintenance?enable=false&reason=": {}},
			run: maint(MaintChange{Disable: true}), out: "Node maintenance is now disabled\n"},
		{name: "service", agent: map[string]reply{"PUT /v1/agent/service/maintenance/web?enable=true&reason=": {}},
			run: maint(MaintChange{Enable: true, Service: "web"}), out: "Service maintenance is now enabled for \"web\"\n"},
		{name: "unknown service", agent: map[string]reply{"PUT /v1/agent/service/maintenance/web?enable=false&reason=": {code: 404, body: "Unknown service ID"}},
			run: maint(MaintChange{Disable: true, Service: "web"}), err: "Error disabling service maintenance: Unexpected response code: 404 (Unknown service ID)"},
		{name: "both", run: maint(MaintChange{Enable: true, Disable: true}), err: "Only one of -enable or -disable may be provided"},
		{name: "reason alone", run: maint(MaintChange{Reason: "x"}), err: "Reason may only be provided with -enable"},
		{name: "service alone", run: maint(MaintChange{Service: "x"}), err: "Service requires either -enable or -disable"},
		{name: "list", run: maint(MaintChange{}), agent: map[string]reply{"GET /v1/agent/self": self, "GET /v1/agent/checks": {body: `{
			"_service_maintenance:web":{"CheckID":"_service_maintenance:web","ServiceID":"web","Notes":"slow"},
			"_node_maintenance":{"CheckID":"_node_maintenance","Notes":"new disk"},
			"other":{"CheckID":"other","Notes":"no"}}`}},
			out: "Node:\n  Name:   n1\n  Reason: new disk\n\nService:\n  ID:     web\n  Reason: slow\n\n"},
		{name: "nothing", run: maint(MaintChange{}), agent: map[string]reply{"GET /v1/agent/self": self, "GET /v1/agent/checks": {body: `{}`}}},
	})
}

func TestKeygen(t *testing.T) {
	var a, b bytes.Buffer
	Keygen(&a)
	Keygen(&b)
	key, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(a.String(), "\n"))
	if err != nil || len(key) != 32 || a.String() == b.String() {
		t.Fatalf("%q, then %q: %v", a.String(), b.String(), err)
	}
}

func TestVersion(t *testing.T) {
	const protocol = "Protocol 2 spoken by default, understands 2 to 3 (agent will automatically use protocol >2 when speaking to compatible agents)\n"
	tests := []struct {
		version, revision, format string
		want, err                 string
	}{
		{"1.2.3-rc1", "abc", "text", "Muster v1.2.3-rc1\nRevision abc\nBuild Date d\n" + protocol, ""},
		{"v1.2.3", "", "text", "Muster v1.2.3\nBuild Date d\n" + protocol, ""},
		{"v1.2.3-rc1", "abc", "json", `{"Version":"1.2.3","Revision":"abc","Prerelease":"rc1","BuildDate":"d","RPC":{"Default":2,"Min":2,"Max":3}}` + "\n", ""},
		{"4903627-dirty", "", "json", `{"Version":"0.0.0","Revision":"","Prerelease":"4903627-dirty","BuildDate":"d","RPC":{"Default":2,"Min":2,"Max":3}}` + "\n", ""},
		{"1.2.3", "", "xml", "", `Unknown format "xml": use text or json`},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		err := Version(&out, Build{tt.version, tt.revision, "d"}, tt.format)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
			t.Errorf("%+v: error %v", tt, err)
		}
		if out.String() != tt.want {
			t.Errorf("%+v: printed %s", tt, out.String())
		}
	}
}

// What failed can be told from the error, so that the caller can add a hint.
func TestNobodyListens(t *testing.T) {
	c, err := client.New(client.Config{Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	err = Info(t.Context(), c, &bytes.Buffer{})
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "Error querying Consul agent: GET /v1/agent/self at http://127.0.0.1:1:") {
		t.Fatal(err)
	}
}
