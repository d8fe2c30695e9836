package cluster

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// Whatever is wrong with a request is answered with a clear error; the agent
// stays up and nothing that it holds changes.
func TestBadRequests(t *testing.T) {
	c := harness.Start(t, 1, 1)
	server, via := c.Agents[0], c.Agent("c1")
	server.Register("web", "web-1")
	if got := ask(server, "PUT", "/v1/agent/check/register", `{"Name":"ttl","TTL":"1h","Status":"passing"}`); got.code != 200 {
		t.Fatal(got)
	}
	checkIs(server, "ttl", "passing")
	server.PutKey("kept", "as it was")
	settle(c)

	huge := strings.Repeat("x", 512<<10+1)
	deep := strings.Repeat("[", 100_000)
	ops := "[" + strings.Repeat(`{"KV":{"Verb":"set","Key":"txn","Value":"eA=="}},`, 128) + `{"KV":{"Verb":"set","Key":"txn","Value":"eA=="}}]`
	for _, tc := range []struct {
		method, path, body string
		code               int
		text               string
	}{
		// Malformed JSON.
		{"PUT", "/v1/catalog/register", `{`, 400, "Request decode failed"},
		{"PUT", "/v1/catalog/register", ``, 400, "Request decode failed"},
		{"PUT", "/v1/catalog/register", `"text"`, 400, "Request decode failed"},
		{"PUT", "/v1/catalog/register", deep, 400, "Request decode failed"},
		{"PUT", "/v1/catalog/deregister", `{"Node": 7}`, 400, "Request decode failed"},
		{"PUT", "/v1/agent/service/register", `{"Name":"x",`, 400, "Request decode failed"},
		{"PUT", "/v1/agent/service/register", `{"Name":"x","Port":"eighty"}`, 400, "Request decode failed"},
		{"PUT", "/v1/agent/check/register", `[]`, 400, "Request decode failed"},
		{"PUT", "/v1/agent/check/register", `{"Name":"x","TTL":"soon"}`, 400, "Request decode failed"},
		{"PUT", "/v1/agent/check/update/ttl", `{"Status":`, 400, "Request decode failed"},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"set","Key":"a","Value":"%%"}}]`, 400, "Failed to parse body"},
		{"PUT", "/v1/txn", `{}`, 400, "Failed to parse body"},
		// Unknown fields.
		{"PUT", "/v1/catalog/register", `{"Node":"n","Address":"1.2.3.4","Colour":"red"}`, 400, `unknown field "Colour"`},
		{"PUT", "/v1/agent/service/register", `{"Name":"x","Prot":80}`, 400, `unknown field "Prot"`},
		{"PUT", "/v1/agent/service/register", `{"Name":"x","Check":{"TTL":"1s","Intervall":"1s"}}`, 400, `unknown field "Intervall"`},
		{"PUT", "/v1/agent/check/register", `{"Name":"x","TTL":"1s","CheckID":"x"}`, 400, `unknown field "CheckID"`},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"set","Key":"a","Worth":""}}]`, 400, `unknown field "Worth"`},
		// Too large.
		{"PUT", "/v1/kv/kept", huge, 413, "too large, max size: 524288 bytes"},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"set","Key":"kept","Value":"` + huge + `"}}]`, 413, "too large, max size"},
		{"PUT", "/v1/txn", ops, 413, "Transaction contains too many operations (129 > 128)"},
		// Bad index, wait, cas and flags.
		{"GET", "/v1/kv/kept?index=x", "", 400, "Invalid index"},
		{"GET", "/v1/kv/kept?index=-1", "", 400, "Invalid index"},
		{"GET", "/v1/catalog/nodes?index=1.5", "", 400, "Invalid index"},
		{"GET", "/v1/health/service/web?index=1&wait=10", "", 400, "Invalid wait time"},
		{"GET", "/v1/catalog/services?wait=soon", "", 400, "Invalid wait time"},
		{"GET", "/v1/catalog/services?stale&consistent", "", 400, "conflicting semantics"},
		{"GET", "/v1/catalog/services?max_stale=x", "", 400, "Invalid max_stale"},
		{"PUT", "/v1/kv/kept?cas=x", "new", 500, "invalid syntax"},
		{"PUT", "/v1/kv/kept?cas=", "new", 500, "invalid syntax"},
		{"PUT", "/v1/kv/kept?flags=-1", "new", 500, "invalid syntax"},
		{"PUT", "/v1/kv/kept?flags=99999999999999999999", "new", 500, "out of range"},
		{"PUT", "/v1/kv/kept?cas=1&acquire=x", "new", 400, "Conflicting flags"},
		{"PUT", "/v1/kv/kept?index=x", "new", 400, "Invalid index"},
		{"DELETE", "/v1/kv/kept?cas=x", "", 500, "invalid syntax"},
		{"DELETE", "/v1/kv/kept?recurse&cas=1", "", 400, "Conflicting flags"},
		// A missing name, verb or thing.
		{"PUT", "/v1/kv/", "x", 400, "Missing key name"},
		{"DELETE", "/v1/kv/", "", 400, "Missing key name"},
		{"GET", "/v1/catalog/service/", "", 400, "Missing service name"},
		{"PUT", "/v1/catalog/register", `{"Address":"1.2.3.4"}`, 500, "Must provide node"},
		{"PUT", "/v1/catalog/register", `{"Node":"n"}`, 500, "Must provide address"},
		{"PUT", "/v1/catalog/register", `{"ID":"no-uuid","Node":"n","Address":"1.2.3.4"}`, 500, "Bad node ID"},
		{"PUT", "/v1/catalog/register", `{"Node":"n","Address":"1.2.3.4","Check":{"Name":"c","ServiceID":"none"}}`, 500, "Unknown service ID 'none'"},
		{"PUT", "/v1/agent/service/register", `{}`, 400, "Missing service name"},
		{"PUT", "/v1/agent/check/register", `{"Name":"x"}`, 400, "Invalid check"},
		{"PUT", "/v1/agent/check/pass/none", "", 404, `Unknown check ID "none"`},
		{"PUT", "/v1/agent/service/deregister/none", "", 404, "Unknown service ID"},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"burn","Key":"kept"}},{"KV":{"Verb":"delete","Key":"kept"}}]`, 409, `unknown KV verb \"burn\"`},
		{"GET", "/v1/catalog/nodes?filter=Node+%3D%3D", "", 500, "Failed to create boolean expression evaluator"},
		{"GET", "/v1/kv/kept?dc=elsewhere", "", 500, "No path to datacenter"},
		// Wrong methods and unknown paths.
		{"POST", "/v1/kv/kept", "new", 405, "method POST not allowed"},
		{"DELETE", "/v1/catalog/register", "{}", 405, "method DELETE not allowed"},
		{"GET", "/v1/agent/leave", "", 405, "method GET not allowed"},
		{"POST", "/v1/agent/service/deregister/web-1", "", 405, "method POST not allowed"},
		{"BREW", "/v1/status/leader", "", 405, "method BREW not allowed"},
		{"GET", "/v1/nothing", "", 404, "not a recognized HTTP API endpoint"},
		{"DELETE", "/v1/nothing", "", 404, "not a recognized HTTP API endpoint"},
	} {
		before := everything(server)
		for _, a := range []*agent{server, via} {
			if a == via && strings.HasPrefix(tc.path, "/v1/agent/") {
				continue // that one's own
			}
			got := ask(a, tc.method, tc.path, tc.body)
			if got.code != tc.code || !strings.Contains(got.body, tc.text) {
				t.Errorf("%s: %s %s %.100s\ngot  %d %.200q\nwant %d %q", a.Name, tc.method, tc.path, tc.body, got.code, got.body, tc.code, tc.text)
			}
		}
		if after := everything(server); after != before {
			t.Fatalf("%s %s %.100s changed what is stored:\n%s\n%s", tc.method, tc.path, tc.body, before, after)
		}
	}
}

// A value past a limit that was set is refused, one at the limit is not.
func TestKVLimitIsSettable(t *testing.T) {
	a := single(t, "-hcl=limits { kv_max_value_size = 1000 }")
	for size, code := range map[int]int{1000: 200, 1001: 413} {
		if got := ask(a, "PUT", "/v1/kv/size"+strconv.Itoa(size), strings.Repeat("x", size)); got.code != code {
			t.Errorf("%d bytes: %+v", size, got)
		}
	}
}

// Headers have a limit too.
func TestOversizedHeader(t *testing.T) {
	a := single(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+a.IP+":8500/v1/status/leader", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 2<<20))
	resp, err := http.DefaultClient.Do(req)
	if err == nil { // else the server hung up while we were still sending
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("code %d", resp.StatusCode)
		}
	}
	if got := ask(a, "GET", "/v1/status/leader", ""); got.code != 200 {
		t.Errorf("%+v", got)
	}
}
