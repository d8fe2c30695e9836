package httpapi

import (
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

func TestCatalogRegisterErrors(t *testing.T) {
	r := newRig(t)
	const register = "PUT /v1/catalog/register"
	r.check(t, []want{
		{register, "", 400, "Request decode failed: EOF"},
		{register, "{", 400, "Request decode failed: unexpected EOF"},
		{register, `{"Node":"a","Adress":"x"}`, 400, `Request decode failed: json: unknown field "Adress"`},
		{register, `{"Node":"a","Namespace":"x"}`, 400, `~unknown field "Namespace"`},
		{register, `[]`, 400, "~Request decode failed: json: cannot unmarshal array"},
		{register, `{"Address":"x"}`, 500, "Must provide node"},
		{register, `{"Node":"a"}`, 500, "Must provide address if SkipNodeUpdate is not set"},
		{register, `{"Node":"a","Address":"x","ID":"zz"}`, 500, "~Bad node ID: "},
		{register, `{"Node":"a","Address":"x","Datacenter":"other"}`, 500, "No path to datacenter"},
		{register, `{"Node":"a","Address":"x","Service":{"ID":"s"}}`, 500,
			"Must provide service name (Service.Service) when service ID is provided"},
		{register, `{"Node":"a","Address":"x","Service":{"Service":"s","Address":"0.0.0.0"}}`, 500, "Invalid service address"},
		{register, `{"Node":"a","Address":"x","Check":{"Name":"c","Node":"b"}}`, 500,
			"Node 'b' for check 'c' doesn't match register request node 'a'"},
		{register, `{"Node":"a","Address":"x","Check":{"Name":"c","ServiceID":"s"}}`, 500, "~Unknown service ID 's' for check ID 'c'"},
		{register, `{"Node":"a","Address":"x","Service":{"Service":"s","Meta":{"a b":"c"}}}`, 500,
			"~failed inserting service: Invalid Service Meta for node a and serviceID s: "},
		{"PUT /v1/catalog/deregister", `{"ServiceID":"x"}`, 500, "Must provide node"},
		{"PUT /v1/catalog/deregister", ``, 400, "Request decode failed: EOF"},
		{"GET /v1/catalog/nodes", "", 200, "[]"},
	})
}

func TestCatalogRegisterForms(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		// Fields in any case, mesh objects ignored, bytes after the value ignored.
		{"PUT /v1/catalog/register", `{"node":"a","ADDRESS":"10.0.0.1","service":{"Service":"s","Proxy":{"Mode":"x"},"Connect":{"Native":true},"Locality":null},
		  "Check":{"Name":"c","Definition":{"HTTP":"http://x","Interval":"10s","Timeout":5000000000,"TCPUseTLS":false,"GRPC":""}}} trailing`, 200, "true"},
		{"GET /v1/health/node/a", "", 200, `~"Definition":{"HTTP":"http://x","Interval":"10s","Timeout":"5s"}`},
		{"GET /v1/health/node/a", "", 200, `~"Status":"critical"`},
		{"GET /v1/catalog/node-services/a", "", 200, `~"Connect":{}`},
		{"PUT /v1/catalog/deregister", `{"Node":"a","Address":"obsolete","CheckID":"c"}`, 200, "true"},
		{"GET /v1/health/node/a", "", 200, `[]`},
		{"PUT /v1/catalog/deregister", `{"Node":"a","ServiceID":"s"}`, 200, "true"},
		{"GET /v1/catalog/services", "", 200, `{}`},
		{"PUT /v1/catalog/deregister", `{"Node":"a"}`, 200, "true"},
		{"GET /v1/catalog/nodes", "", 200, `[]`},
		{"PUT /v1/catalog/deregister", `{"Node":"a"}`, 200, "true"},
	})
}

func TestCatalogReads(t *testing.T) {
	r := newRig(t)
	r.seed()
	r.check(t, []want{
		{"GET /v1/catalog/nodes?near=_agent", "", 200, `~[{"ID":"","Node":"a","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":{"rack":"1"},`},
		{"GET /v1/catalog/nodes?node-meta=rack:2", "", 200, `~[{"ID":"","Node":"b",`},
		{"GET /v1/catalog/nodes?node-meta=rack:2&node-meta=no", "", 200, `[]`},
		{`GET /v1/catalog/nodes?filter=Meta.rack=="3"`, "", 200, `[]`},
		{"GET /v1/catalog/services", "", 200, `{"db":[],"web":["blue","v1","v2"]}`},
		{"GET /v1/catalog/services?node-meta=rack:1", "", 200, `{"web":["blue","v1"]}`},
		{"GET /v1/catalog/services?filter=ServicePort==80", "", 200, `{"web":["v1","blue"]}`},
		{"GET /v1/catalog/service/", "", 400, "Missing service name"},
		{"GET /v1/catalog/service/none", "", 200, "[]"},
		{"GET /v1/catalog/service/WEB?tag=V1&tag=blue", "", 200, `~"ServiceID":"web1"`},
		{"GET /v1/catalog/service/web?tag=v1&tag=v2", "", 200, `[]`},
		{"GET /v1/catalog/service/web?tag=v2", "", 200, `~"ServiceProxy":{},"ServiceConnect":{},"ServiceLocality":null`},
		{"GET /v1/catalog/service/db", "", 200, `~"ServiceTags":[],"ServiceAddress":"","ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{}`},
		{"GET /v1/catalog/node/", "", 400, "Missing node name"},
		{"GET /v1/catalog/node/none", "", 200, "null"},
		{"GET /v1/catalog/node/b", "", 200, `~"Services":{"db":{"ID":"db",`},
		{`GET /v1/catalog/node/b?filter=Service==none`, "", 200, `~"Services":{}}`},
		{"GET /v1/catalog/node-services/", "", 400, "Missing node name"},
		{"GET /v1/catalog/node-services/none", "", 200, `{"Node":null,"Services":null}`},
		{`GET /v1/catalog/node-services/b?filter=Service==db`, "", 200, `~"Services":[{"ID":"db",`},
		{"GET /v1/catalog/connect/web", "", 200, "[]"},
		{"GET /v1/catalog/gateway-services/web", "", 200, "[]"},
		{"GET /v1/catalog/datacenters", "", 200, `["dc1"]`},
		{"GET /v1/catalog/datacenters?stale&consistent", "", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."},
	})
}

func TestHealthReads(t *testing.T) {
	r := newRig(t)
	r.seed()
	r.check(t, []want{
		{"GET /v1/health/node/", "", 400, "Missing node name"},
		{"GET /v1/health/node/none", "", 200, "[]"},
		{"GET /v1/health/node/a", "", 200, `~"CheckID":"alive","Name":"alive","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},`},
		{"GET /v1/health/checks/", "", 400, "Missing service name"},
		{"GET /v1/health/checks/db", "", 200, "[]"},
		{`GET /v1/health/checks/web?filter=Status==warning`, "", 200, `~[{"Node":"b","CheckID":"web2-check"`},
		{"GET /v1/health/state/", "", 400, "Missing check state"},
		{"GET /v1/health/state/strange", "", 200, "[]"},
		{"GET /v1/health/state/Critical", "", 200, `~[{"Node":"b","CheckID":"web3-check"`},
		{"GET /v1/health/state/any?node-meta=rack:1", "", 200, `~"CheckID":"web1-check"`},
		{"GET /v1/health/service/", "", 400, "Missing service name"},
		{"GET /v1/health/service/none", "", 200, "[]"},
		{"GET /v1/health/service/web?passing=maybe", "", 400, "Invalid value for ?passing"},
		{"GET /v1/health/connect/web", "", 200, "[]"},
		{"GET /v1/health/ingress/web", "", 200, "[]"},
	})
	for query, instances := range map[string]int{
		"": 3, "?passing": 1, "?passing=1": 1, "?passing=false": 3, "?tag=v2": 1, "?tag=": 3, "?node-meta=rack:2": 2,
		`?filter=Checks.Status=="critical"`: 1, `?filter=Service.Meta.k=="x"`: 1, `?filter=Checks+is+empty`: 0,
	} {
		body := r.must("GET /v1/health/service/web"+query, "")
		if n := strings.Count(body, `"Checks":`); n != instances {
			t.Errorf("%s: %d instances, want %d: %s", query, n, instances, body)
		}
	}
}

func TestDiscoveryHeaders(t *testing.T) {
	r := newRig(t)
	r.seed()
	r.cluster.set(func(c *fakeCluster) { c.known, c.contact = false, 42e6 })
	for _, c := range []struct{ query, consistency, known, contact string }{
		{"", "leader", "true", "0"},
		{"?consistent", "consistent", "true", "0"},
		{"?stale", "stale", "false", "42"},
	} {
		h := r.do("GET /v1/health/service/web"+c.query, "").Header()
		for name, value := range map[string]string{
			api.HeaderConsistency: c.consistency, api.HeaderKnownLeader: c.known, api.HeaderLastContact: c.contact,
			api.HeaderIndex: "3", api.HeaderQueryBackend: "blocking-query", "Content-Type": "application/json",
		} {
			if h.Get(name) != value {
				t.Errorf("%q: %s is %q, want %q", c.query, name, h.Get(name), value)
			}
		}
	}
	for _, target := range []string{"GET /v1/status/leader", "GET /v1/catalog/datacenters", "GET /v1/operator/raft/configuration", "PUT /v1/kv/x"} {
		if h := r.do(target, "").Header(); h.Get(api.HeaderIndex)+h.Get(api.HeaderKnownLeader) != "" {
			t.Errorf("%s has query headers: %v", target, h)
		}
	}
	h := r.do("GET /v1/catalog/nodes?filter=Foo==1", "").Header()
	if h.Get(api.HeaderIndex) != "1" || h.Get(api.HeaderKnownLeader) != "false" {
		t.Errorf("a failed catalog read has headers %v", h)
	}
	if h := r.do("GET /v1/health/service/web?filter=Foo==1", "").Header(); h.Get(api.HeaderIndex) != "" {
		t.Errorf("a failed read of instances has headers %v", h)
	}
}

func TestStatusAndOperator(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET /v1/status/leader", "", 200, `"10.0.0.1:8300"`},
		{"GET /v1/status/leader?dc=other", "", 500, "No path to datacenter"},
		{"GET /v1/status/peers", "", 200, `["10.0.0.1:8300"]`},
		{"GET /v1/operator/raft/configuration?stale", "", 200,
			`{"Servers":[{"ID":"id-1","Node":"n1","Address":"10.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":0}],"Index":7}`},
		{"GET /v1/coordinate/nodes", "", 200, "[]"},
		{"GET /v1/coordinate/node/x", "", 404, ""},
		{"GET /v1/coordinate/datacenters", "", 200, `[{"Datacenter":"dc1","AreaID":"wan","Coordinates":[]}]`},
	})
}

// TestRegistrationsTakeWhatTheReferenceIgnores, and refuse what it refuses: each row
// was tried at a Consul 1.8.7.
func TestRegistrationsTakeWhatTheReferenceIgnores(t *testing.T) {
	r := newRig(t)
	const register, node = "PUT /v1/catalog/register", `{"Node":"n1","Address":"10.0.0.1"`
	check := func(more string) string { return node + `,"Check":{"CheckID":"c","Name":"c"` + more + `}}` }
	rows := []want{
		{register, node + `,"Token":"t"}`, 200, "true"},
		{register, node + `,"CreateIndex":5,"ModifyIndex":6}`, 200, "true"},
		{register, check(`,"Definition":{"Bogus":1}`), 200, "true"},
		{register, check(`,"Definition":{"interval_duration":"10s","deregister_critical_service_after":"10s","tls_skip_verify":true}`), 200, "true"},
		{register, check(`,"Definition":{"IntervalDuration":1}`), 200, "true"},
		{register, check(`,"Definition":{"Interval":"x"}`), 400, "~Request decode failed"},
		{register, check(`,"Definition":[]`), 400, "~Request decode failed"},
		{register, check(`,"Token":"t"`), 400, `~unknown field "Token"`},
		{register, check(`,"service_id":"x"`), 400, `~unknown field "service_id"`},
		{register, node + `,"WriteRequest":{}}`, 400, `~unknown field "WriteRequest"`},
		{register, node + `,"Service":{"Service":"s","Token":"t"}}`, 400, `~unknown field "Token"`},
		{"PUT /v1/catalog/deregister", `{"Node":"nope","Token":"t"}`, 200, "true"},
		{"PUT /v1/catalog/deregister", `{"Node":"nope","Bogus":"t"}`, 400, `~unknown field "Bogus"`},
		{"PUT /v1/txn", `[{"Check":{"Verb":"set","Check":{"Node":"n1","CheckID":"t","Name":"t","Definition":{"Bogus":1}}}}]`, 200, "~Results"},
		{"PUT /v1/txn", `[{"Check":{"Verb":"set","Check":{"Node":"n1","CheckID":"t","Name":"t","Bogus":1}}}]`, 400, `~unknown field "Bogus"`},
	}
	r.check(t, rows)
	r.must(register, check(`,"Definition":{"Interval":"10s","TCP":"x:1","Bogus":1}`))
	if got := r.must("GET /v1/health/node/n1", ""); !strings.Contains(got, `"TCP":"x:1"`) || !strings.Contains(got, `"Interval":"10s"`) {
		t.Errorf("what is known of a definition is lost: %s", got)
	}
}
