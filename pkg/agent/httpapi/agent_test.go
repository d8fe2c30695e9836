package httpapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func TestAgentItself(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET /v1/agent/self", "", 200, `~{"Config":{"Datacenter":"dc1","PrimaryDatacenter":"","NodeName":"n1"`},
		{"GET /v1/agent/version", "", 200, `{"SHA":"","BuildDate":"","HumanVersion":"1.2.3","FIPS":""}`},
		{"GET /v1/agent/members", "", 200, `~{"Name":"n2","Addr":"10.0.0.2","Port":8301,"Tags":{"role":"node"},"Status":4,`},
		{"GET /v1/agent/members?segment=_all&filter=Status==4", "", 200, `~[{"Name":"n2"`},
		{"GET /v1/agent/members?wan=1", "", 200, "[]"},
		{"GET /v1/agent/members?wan=1&segment=x", "", 400, "Cannot provide a segment with wan=true"},
		{"GET /v1/agent/members?segment=x", "", 500, "Network segments are not supported in this version of Consul"},
		{"GET /v1/agent/metrics", "", 200, `{"Gauges":[]}`},
		{"PUT /v1/agent/join/10.0.0.9", "", 200, ""},
		{"PUT /v1/agent/join/10.0.0.9?wan=1", "", 500, "~no pool that spans datacenters"},
		{"PUT /v1/agent/leave", "", 200, ""},
		{"PUT /v1/agent/reload", "", 200, ""},
		{"PUT /v1/agent/force-leave/n2?prune", "", 200, ""},
		{"PUT /v1/agent/force-leave/zz", "", 500, "agent: No node found with name 'zz'"},
	})
	if strings.Join(r.members.joined, " ") != "10.0.0.9" || strings.Join(r.members.left, " ") != "n2 pruned" {
		t.Errorf("joined %v, left %v", r.members.joined, r.members.left)
	}
	r.members.joinErr = errors.New("dial tcp: refused")
	r.agent.reloadErr = errors.New("bad config")
	r.check(t, []want{
		{"PUT /v1/agent/join/h", "", 500, "1 error occurred:\n\t* Failed to join h: dial tcp: refused"},
		{"PUT /v1/agent/reload", "", 500, "bad config"},
	})
	if h := r.do("PUT /v1/agent/leave", "").Header(); h.Get("Content-Type") != "" {
		t.Errorf("an empty answer has type %q", h.Get("Content-Type"))
	}
}

func TestPrometheusMetrics(t *testing.T) {
	r := newRig(t)
	w := r.do("GET /v1/agent/metrics?format=prometheus", "")
	if w.Code != 200 || w.Body.Len() != 0 || !strings.HasPrefix(w.Header().Get(api.HeaderReason), "Prometheus is not enabled") {
		t.Errorf("off: %d %q %v", w.Code, w.Body, w.Header())
	}
	on := newRig(t, func(c *Config) {
		c.Prometheus = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1\n")) })
	})
	w = on.do("GET /v1/agent/metrics", "", "Accept", "text/plain; version=0.0.4")
	if w.Body.String() != "up 1\n" {
		t.Errorf("on: %d %q", w.Code, w.Body)
	}
}

func TestServiceRegistration(t *testing.T) {
	r := newRig(t)
	const register = "PUT /v1/agent/service/register"
	r.check(t, []want{
		{register, "", 400, "Request decode failed: EOF"},
		{register, `{"Nam":"web"}`, 400, `Request decode failed: json: unknown field "Nam"`},
		{register, `{"Name":"web","Port":"80"}`, 400, "~Request decode failed: json: cannot unmarshal string"},
		{register, `{}`, 400, "Missing service name"},
		{register, `null`, 400, "Missing service name"},
		{register, `{"Name":"web","Address":"0.0.0.0"}`, 400, "Invalid service address"},
		{register, `{"Name":"web","Check":{"ID":"x","TTL":"1m"}}`, 400, `Request decode failed: json: unknown field "ID"`},
		{register, `{"Name":"web","Checks":[{"id":"x","TTL":"1m"}]}`, 400, `Request decode failed: json: unknown field "id"`},
		{register, `{"Name":"web","Check":{"TTL":"x"}}`, 400, `Request decode failed: time: invalid duration "x"`},
		{register, `{"Name":"web","Check":{"TTL":"1m","Status":"odd"}}`, 400, "Status for checks must 'passing', 'warning', 'critical'"},
		{register, `{"Name":"web","Check":{"HTTP":"http://x"}}`, 400,
			"Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{register, `{"Name":"web","Check":{"Args":["true"],"Interval":"10s"}}`, 500,
			"Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{"GET /v1/agent/services", "", 200, "{}"},
		{register, `{"name":"web","ID":"w1","tagged_addresses":{"lan_ipv4":{"Address":"10.0.0.7","Port":7}},"enable_tag_override":true,
		  "Meta":{"snake_key":"v"},"Proxy":{},"Connect":{"Native":true},
		  "Check":{"CheckID":"c1","TTL":"1m","deregister_critical_service_after":"90m","Header":{"x_y":["z"]}}}`, 200, ""},
		{"GET /v1/agent/services", "", 200, `~{"w1":{"ID":"w1","Service":"web","Tags":[],"Meta":{"snake_key":"v"},"Port":0,"Address":"","TaggedAddresses":{"lan_ipv4":{"Address":"10.0.0.7","Port":7}},"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":true,"Datacenter":"dc1"}}`},
		{"GET /v1/agent/services?filter=Port==1", "", 200, "{}"},
		{"GET /v1/agent/services?filter=Zort==1", "", 500, `~Failed to create boolean expression evaluator: Selector "Zort" is not valid`},
		{"GET /v1/agent/checks?filter=ServiceID==w1", "", 200, `~"c1":{"Node":"n1","CheckID":"c1"`},
		{"PUT /v1/agent/service/deregister/zz", "", 404,
			`Unknown service ID "zz". Ensure that the service ID is passed, not the service name.`},
		{"PUT /v1/agent/service/deregister/w1", "", 200, ""},
		{"GET /v1/agent/checks", "", 200, "{}"},
	})
}

func TestReplaceExistingChecks(t *testing.T) {
	r := newRig(t)
	const register = "PUT /v1/agent/service/register"
	for query, kept := range map[string]bool{"": true, "?replace-existing-checks=false": true, "?replace-existing-checks": false, "?replace-existing-checks=true": false} {
		r.must(register, `{"Name":"web","Check":{"CheckID":"old","TTL":"1m"}}`)
		r.must(register+query, `{"Name":"web","Check":{"CheckID":"new","TTL":"1m"}}`)
		if got := strings.Contains(r.must("GET /v1/agent/checks", ""), `"old"`); got != kept {
			t.Errorf("%q: the old check is there: %v, want %v", query, got, kept)
		}
		r.must("PUT /v1/agent/service/deregister/web", "")
	}
}

func TestCheckRegistrationAndTTL(t *testing.T) {
	r := newRig(t)
	const register = "PUT /v1/agent/check/register"
	const unknown = `Unknown check ID "zz". Ensure that the check ID is passed, not the check name.`
	r.check(t, []want{
		{register, `{"CheckID":"c","Name":"c","TTL":"1m"}`, 400, `Request decode failed: json: unknown field "CheckID"`},
		{register, `{"TTL":"1m"}`, 400, "Missing check name"},
		{register, `{"Name":"c","Status":"odd","TTL":"1m"}`, 400, "Bad check status"},
		{register, `{"Name":"c"}`, 400, "~Invalid check: "},
		{register, `{"Name":"c","TTL":"1m","service_id":"s"}`, 404, `ServiceID "s" does not exist`},
		{register, `{"ID":"c1","Name":"c","TTL":60000000000}`, 200, ""},
		{register, `{"Name":"tcp","tcp":"127.0.0.1:1","Interval":"1h"}`, 200, ""},
		{"PUT /v1/agent/check/pass/c1?note=fine", "", 200, ""},
		{"GET /v1/agent/checks", "", 200, `~"Status":"passing","Notes":"","Output":"fine"`},
		{"PUT /v1/agent/check/warn/c1", "", 200, ""},
		{"GET /v1/agent/checks", "", 200, `~"Status":"warning"`},
		{"PUT /v1/agent/check/fail/c1", "", 200, ""},
		{"PUT /v1/agent/check/update/c1", `{"Status":"passing","Output":"up"}`, 200, ""},
		{"GET /v1/agent/checks", "", 200, `~"Output":"up"`},
		{"PUT /v1/agent/check/update/c1", `{"Status":"odd"}`, 400, "Invalid check status: 'odd'"},
		{"PUT /v1/agent/check/update/c1", `{"State":"odd"}`, 400, "~unknown field"},
		{"PUT /v1/agent/check/pass/tcp", "", 500, `CheckID "tcp" does not have associated TTL`},
		{"PUT /v1/agent/check/pass/zz", "", 404, unknown},
		{"PUT /v1/agent/check/pass/", "", 404, strings.Replace(unknown, "zz", "", 1)},
		{"PUT /v1/agent/check/deregister/zz", "", 404, unknown},
		{"PUT /v1/agent/check/deregister/c1", "", 200, ""},
		{"GET /v1/agent/checks?filter=CheckID==c1", "", 200, "{}"},
	})
}

func TestMaintenance(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/agent/service/register", `{"Name":"web"}`)
	r.check(t, []want{
		{"PUT /v1/agent/maintenance", "", 400, "Missing value for enable"},
		{"PUT /v1/agent/maintenance?enable=", "", 400, `Invalid value for enable: ""`},
		{"PUT /v1/agent/maintenance?enable=x", "", 400, `Invalid value for enable: "x"`},
		{"PUT /v1/agent/maintenance?enable=true&reason=why", "", 200, ""},
		{"GET /v1/agent/checks", "", 200, `~"_node_maintenance":{"Node":"n1","CheckID":"_node_maintenance","Name":"Node Maintenance Mode","Status":"critical","Notes":"why"`},
		{"PUT /v1/agent/maintenance?enable=false", "", 200, ""},
		{"PUT /v1/agent/service/maintenance/", "", 400, "Missing service ID"},
		{"PUT /v1/agent/service/maintenance/zz", "", 400, "Missing value for enable"},
		{"PUT /v1/agent/service/maintenance/zz?enable=true", "", 404, "~Unknown service ID"},
		{"PUT /v1/agent/service/maintenance/web?enable=true", "", 200, ""},
		{"GET /v1/agent/health/service/id/web?format=text", "", 503, "maintenance"},
	})
}

func TestAgentHealth(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/agent/service/register", `{"Name":"web","ID":"w1","Check":{"CheckID":"c1","TTL":"1m","Status":"passing"}}`)
	r.must("PUT /v1/agent/service/register", `{"Name":"web","ID":"w2","Check":{"CheckID":"c2","TTL":"1m","Status":"warning"}}`)
	r.check(t, []want{
		{"GET /v1/agent/health/service/id/", "", 500, "Missing serviceID"},
		{"GET /v1/agent/health/service/id/zz", "", 404, `{"AggregatedStatus":"critical","Service":null,"Checks":null}`},
		{"GET /v1/agent/health/service/id/zz?format=text", "", 404, "ServiceId zz not found"},
		{"GET /v1/agent/health/service/id/w1", "", 200, `~{"AggregatedStatus":"passing","Service":{"ID":"w1",`},
		{"GET /v1/agent/health/service/id/w2?format=text", "", 429, "warning"},
		{"GET /v1/agent/health/service/name/", "", 500, "Missing service Name"},
		{"GET /v1/agent/health/service/name/zz", "", 404, "[]"},
		{"GET /v1/agent/health/service/name/zz?format=text", "", 404, "ServiceName zz Not Found"},
		{"GET /v1/agent/health/service/name/web", "", 429, `~[{"AggregatedStatus":"passing"`},
		{"PUT /v1/agent/check/register", `{"Name":"disk","TTL":"1m"}`, 200, ""},
		{"GET /v1/agent/health/service/id/w1", "", 503, `~"CheckID":"disk"`},
	})
	w := r.do("GET /v1/agent/health/service/name/web", "", "Accept", "text/plain")
	if w.Body.String() != "critical" || w.Header().Get(api.HeaderReason) != "critical" || w.Header().Get("Content-Type") != "text/plain" {
		t.Errorf("text: %q %v", w.Body, w.Header())
	}
}

func TestServiceHashBlocking(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/agent/service/register", `{"Name":"web"}`)
	r.check(t, []want{
		{"GET /v1/agent/service/zz", "", 404, "unknown service ID: zz"},
		{"GET /v1/agent/service/web?wait=1", "", 400, "Invalid wait time"},
	})
	w := r.do("GET /v1/agent/service/web", "")
	hash := w.Header().Get(api.HeaderContentHash)
	if hash == "" || !strings.Contains(w.Body.String(), `"ContentHash":"`+hash+`"`) {
		t.Fatalf("hash %q, body %s", hash, w.Body)
	}
	if w := r.do("GET /v1/agent/service/web?wait=10ms&hash="+hash, ""); w.Header().Get(api.HeaderContentHash) != hash {
		t.Errorf("after the wait: %d %v", w.Code, w.Header())
	}
	done := make(chan string)
	go func() {
		done <- r.do("GET /v1/agent/service/web?wait=1m&hash="+hash, "").Header().Get(api.HeaderContentHash)
	}()
	r.must("PUT /v1/agent/service/register", `{"Name":"web","Port":80}`)
	select {
	case got := <-done:
		if got == hash || got == "" {
			t.Errorf("woke with hash %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a change of the service woke nobody")
	}
}

// A name from the request may hold what no header may.
func TestReasonIsAHeader(t *testing.T) {
	rq := &request{h: http.Header{}}
	rq.reason("ServiceId a\x00b\x7f\nc not found")
	if got := rq.h.Get(api.HeaderReason); got != "ServiceId abc not found" {
		t.Errorf("reason %q", got)
	}
}
