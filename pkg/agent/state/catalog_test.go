package state

import (
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	uuid1 = "11111111-aaaa-bbbb-cccc-000000000001"
	uuid2 = "11111111-aaaa-bbbb-cccc-000000000002"
	uuid3 = "22222222-aaaa-bbbb-cccc-000000000003"
)

func withID(r *Register, id string) *Register {
	r.Node.ID = id
	return r
}

func TestRegisterErrors(t *testing.T) {
	long := strings.Repeat("x", 513)
	many := map[string]string{}
	for i := range 65 {
		many["k"+strings.Repeat("x", i)] = ""
	}
	meta := func(m map[string]string) *Register {
		s := service("w", "web")
		s.Meta = m
		return register("n", s)
	}
	address := func(a string) *Register {
		s := service("w", "web")
		s.Address = a
		return register("n", s)
	}
	onNode := func(name string) *Register {
		c := check("c", "", "")
		c.Node = name
		return register("n", nil, c)
	}
	const badMeta = "failed inserting service: Invalid Service Meta for node n and serviceID w: "
	for _, tc := range []struct {
		name string
		cmd  *Register
		want string
	}{
		{"nothing", &Register{}, "Must provide node"},
		{"no name", &Register{Node: &api.Node{Address: "x"}}, "Must provide node"},
		{"no address", &Register{Node: &api.Node{Node: "n"}}, "Must provide address if SkipNodeUpdate is not set"},
		{"no address, skipped", &Register{Node: &api.Node{Node: "n"}, SkipNodeUpdate: true}, ""},
		{"short id", withID(register("n", nil), "x"), "Bad node ID: uuid string is wrong length"},
		{"bad id", withID(register("n", nil), strings.Repeat("x", 36)), "Bad node ID: uuid is improperly formatted"},
		{"service id alone", register("n", service("w", "")), "Must provide service name (Service.Service) when service ID is provided"},
		{"any address", address("0.0.0.0"), "Invalid service address"},
		{"any address, v6", address("::"), "Invalid service address"},
		{"any address, v6 in brackets", address("[::]"), "Invalid service address"},
		{"service on any-IP node", &Register{Node: &api.Node{Node: "n", Address: "0.0.0.0"}}, ""},
		{"blank meta key", meta(map[string]string{"": ""}), badMeta + "Couldn't load metadata pair ('', ''): Key cannot be blank"},
		{"bad meta key", meta(map[string]string{"a.b": "1"}), badMeta + "Couldn't load metadata pair ('a.b', '1'): Key contains invalid characters"},
		{"reserved meta key", meta(map[string]string{"consul-x": "1"}), badMeta + "Couldn't load metadata pair ('consul-x', '1'): Key prefix 'consul-' is reserved for internal use"},
		{"long meta key", meta(map[string]string{long[:129]: ""}), badMeta + "Couldn't load metadata pair ('" + long[:129] + "', ''): Key is too long (limit: 128 characters)"},
		{"long meta value", meta(map[string]string{"a": long}), badMeta + "Couldn't load metadata pair ('a', '" + long + "'): Value is too long (limit: 512 characters)"},
		{"much meta", meta(many), badMeta + "Node metadata cannot contain more than 64 key/value pairs"},
		{"check of another node", onNode("m"), "Node 'm' for check 'c' doesn't match register request node 'n'"},
		{"check of this node", onNode("N"), ""},
		{"check of no service", register("n", service("w", "web"), check("c", "x", "")), "Unknown service ID 'x' for check ID 'c'"},
		{"check without id", register("n", nil, &api.HealthCheck{}), "Must provide check name or check ID"},
		{"nil check", register("n", nil, nil), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t)
			before := l.bytes()
			result, touched := l.do(tc.cmd)
			if tc.want == "" {
				if result != nil {
					t.Errorf("result is %v", result)
				}
				return
			}
			err, _ := result.(error)
			if err == nil || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", result, tc.want)
			}
			l.s.root.Index = 0
			if len(touched) != 0 || string(before) != string(l.bytes()) {
				t.Errorf("a refused command has changed something: %v", touched)
			}
		})
	}
}

func TestNodeIdentity(t *testing.T) {
	serf := func(status string) *api.HealthCheck { return check(api.SerfHealthID, "", status) }
	taken := func(id, name, by, byName string) string {
		return `failed inserting node: Error while renaming Node ID: "` + id + `": Node name ` + name +
			` is reserved by node ` + by + ` with name ` + byName + ` (10.0.0.1)`
	}
	for _, tc := range []struct {
		name string
		have []*Register
		cmd  *Register
		want string
		id   string // of the node named by cmd, afterwards
	}{
		{"same again", []*Register{withID(register("a", nil), uuid1)}, withID(register("A", nil), uuid1), "", uuid1},
		{"id in other case", []*Register{withID(register("a", nil), uuid1)}, withID(register("a", nil), strings.ToUpper(uuid1)), "", strings.ToUpper(uuid1)},
		{"id left out", []*Register{withID(register("a", nil), uuid1)}, register("a", nil), "", uuid1},
		{"id added", []*Register{register("a", nil)}, withID(register("a", nil), uuid1), "", uuid1},
		{"name taken by a live node", []*Register{withID(register("a", nil, serf("passing")), uuid1)}, withID(register("a", nil), uuid2), taken(uuid2, "a", uuid1, "a"), uuid1},
		{"name taken by a dead node", []*Register{withID(register("a", nil, serf("critical")), uuid1)}, withID(register("a", nil), uuid2), "", uuid2},
		{"id taken by a live node", []*Register{withID(register("a", nil, serf("passing")), uuid1)}, withID(register("b", nil), uuid1), taken(uuid1, "b", uuid1, "a"), ""},
		{"id taken by a node without serf", []*Register{withID(register("a", nil), uuid1)}, withID(register("b", nil), uuid1), taken(uuid1, "b", uuid1, "a"), ""},
		{"renamed after death", []*Register{withID(register("a", service("w", "web"), serf("critical")), uuid1)}, withID(register("b", nil), uuid1), "", uuid1},
		{"skipped", []*Register{withID(register("a", nil, serf("passing")), uuid1)}, &Register{Node: &api.Node{Node: "a", ID: uuid2}, SkipNodeUpdate: true}, "", uuid1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t)
			for _, r := range tc.have {
				l.must(r)
			}
			result, _ := l.do(tc.cmd)
			if err, _ := result.(error); err == nil && tc.want != "" || err != nil && err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", result, tc.want)
			}
			n, _ := l.sn.Node(tc.cmd.Node.Node)
			if n == nil {
				n = &api.Node{}
			}
			if n.ID != tc.id {
				t.Errorf("id is %q, want %q", n.ID, tc.id)
			}
			if tc.name == "renamed after death" {
				if got := l.sn.Stats(); got != (Stats{Nodes: 1}) {
					t.Errorf("the old name left %+v", got)
				}
			}
		})
	}
}

func TestNamesHaveNoCase(t *testing.T) {
	l := newLab(t)
	l.must(register("Node-1", service("w1", "Web"), check("c", "w1", "passing")))
	l.must(register("NODE-1", service("w2", "web"), check("d", "", "passing")))
	nodes, _ := l.sn.Nodes(nil)
	if len(nodes) != 1 || nodes[0].Node != "Node-1" {
		t.Errorf("nodes are %s", asJSON(t, nodes))
	}
	if rows, _ := l.sn.ServiceNodes("wEB", Select{}); len(rows) != 2 || rows[1].Node != "Node-1" || rows[1].ServiceName != "web" {
		t.Errorf("service wEB is %s", asJSON(t, rows))
	}
	if rows, _ := l.sn.HealthService("WEB", Select{Tags: nil, Passing: true}); len(rows) != 2 || len(rows[0].Checks) != 2 || rows[0].Checks[0].Node != "Node-1" {
		t.Errorf("health of WEB is %s", asJSON(t, rows))
	}
	if checks, _ := l.sn.HealthNode("node-1"); len(checks) != 2 {
		t.Errorf("health of node-1 is %s", asJSON(t, checks))
	}
	if checks, _ := l.sn.HealthState("PASSING", nil); len(checks) != 2 {
		t.Errorf("passing checks are %s", asJSON(t, checks))
	}
	if checks, _ := l.sn.HealthChecks("WEB", nil); len(checks) != 1 {
		t.Errorf("checks of WEB are %s", asJSON(t, checks))
	}
	if services, _ := l.sn.Services(nil); len(services) != 2 || l.sn.Stats().Services != 1 {
		t.Errorf("services are %v, %+v", services, l.sn.Stats())
	}
	l.must(&Deregister{Node: "node-1", ServiceID: "W1"})
	if l.sn.Stats().Instances != 2 {
		t.Error("a service id was matched without regard to case")
	}
	l.must(&Deregister{Node: "node-1"})
	if l.sn.Stats() != (Stats{}) {
		t.Errorf("left over: %+v", l.sn.Stats())
	}
}

func TestNodeByIDPrefix(t *testing.T) {
	l := newLab(t)
	l.must(withID(register("a", nil), uuid1))
	l.must(withID(register("b", nil), uuid2))
	l.must(withID(register("c", service("w", "web")), strings.ToUpper(uuid3)))
	for query, want := range map[string]string{
		"a": "a", uuid1: "a", uuid1[:35]: "", "11": "", uuid2: "b", "2": "", "22": "c", "222222": "c", "33": "", "": "", strings.ToUpper(uuid3): "c",
	} {
		n, _ := l.sn.Node(query)
		if got := n; got == nil && want != "" || got != nil && got.Node != want {
			t.Errorf("%q finds %s, want %q", query, asJSON(t, got), want)
		}
		ns, _ := l.sn.NodeServices(query)
		if (ns == nil) != (want == "") || ns != nil && ns.Node.Node != want {
			t.Errorf("services of %q: %s", query, asJSON(t, ns))
		}
	}
	l.must(register("22", nil))
	if n, _ := l.sn.Node("22"); n.Node != "22" {
		t.Errorf("an id prefix goes before a name: %s", n.Node)
	}
}

func TestLookupsByAddress(t *testing.T) {
	l := newLab(t)
	r := register("b", service("w", "web"))
	r.Node.Address, r.Service.Address = "fe80:0::1", "10.1.0.1"
	l.must(r)
	l.must(register("a", nil)) // 10.0.0.1
	if n, _ := l.sn.NodeByAddress("fe80::1"); n == nil || n.Node != "b" {
		t.Errorf("fe80::1 is %v", n)
	}
	if n, _ := l.sn.NodeByAddress("10.0.0"); n != nil {
		t.Errorf("half an address finds %v", n)
	}
	if s, _ := l.sn.ServiceByAddress("10.1.0.1"); s == nil || s.ServiceName != "web" || s.Node != "b" {
		t.Errorf("10.1.0.1 is %v", s)
	}
	if s, _ := l.sn.ServiceByAddress("10.1.0.2"); s != nil {
		t.Errorf("10.1.0.2 is %v", s)
	}
}

func TestCatalogShapes(t *testing.T) {
	l := newLab(t)
	l.must(register("n", &api.NodeService{Service: "web"}, &api.HealthCheck{
		Name: "http", ServiceID: "web", Definition: api.HealthCheckDefinition{HTTP: "http://x", Interval: 1e10},
	}))
	const (
		nodeJSON    = `{"ID":"","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":null,"CreateIndex":10,"ModifyIndex":10}`
		serviceJSON = `{"ID":"web","Service":"web","Tags":[],"Address":"","Meta":null,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{},"Connect":{},"PeerName":"","CreateIndex":10,"ModifyIndex":10}`
		checkJSON   = `{"Node":"n","CheckID":"http","Name":"http","Status":"critical","Notes":"","Output":"","ServiceID":"web","ServiceName":"web","ServiceTags":[],"Type":"http","Interval":"","Timeout":"","ExposedPort":0,"Definition":{"HTTP":"http://x","Interval":"10s"},"CreateIndex":10,"ModifyIndex":10}`
	)
	value := func(v any, _ Meta) any { return v }
	for _, tc := range []struct {
		name string
		got  any
		want string
	}{
		{"nodes", value(l.sn.Nodes(nil)), "[" + nodeJSON + "]"},
		{"no nodes", value(l.sn.Nodes(map[string]string{"a": ""})), "[]"},
		{"services", value(l.sn.Services(nil)), `{"web":[]}`},
		{"no services", value(l.sn.Services(map[string]string{"a": "b"})), `{}`},
		{"service", value(l.sn.ServiceNodes("web", Select{})), `[{"ID":"","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"NodeMeta":null,"ServiceKind":"","ServiceID":"web","ServiceName":"web","ServiceTags":[],"ServiceAddress":"","ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{},"ServicePort":0,"ServiceSocketPath":"","ServiceEnableTagOverride":false,"ServiceProxy":{},"ServiceConnect":{},"ServiceLocality":null,"CreateIndex":10,"ModifyIndex":10}]`},
		{"no service", value(l.sn.ServiceNodes("none", Select{})), `[]`},
		{"node services", value(l.sn.NodeServices("n")), `{"Node":` + nodeJSON + `,"Services":{"web":` + serviceJSON + `}}`},
		{"no node", value(l.sn.NodeServices("none")), `null`},
		{"health", value(l.sn.HealthService("web", Select{})), `[{"Node":` + nodeJSON + `,"Service":` + serviceJSON + `,"Checks":[` + checkJSON + `]}]`},
		{"none passing", value(l.sn.HealthService("web", Select{Passing: true})), `[]`},
		{"health of node", value(l.sn.HealthNode("n")), "[" + checkJSON + "]"},
		{"health of no node", value(l.sn.HealthNode("m")), "[]"},
		{"checks", value(l.sn.HealthChecks("web", nil)), "[" + checkJSON + "]"},
		{"any state", value(l.sn.HealthState("any", nil)), "[" + checkJSON + "]"},
		{"unknown state", value(l.sn.HealthState("odd", nil)), "[]"},
	} {
		if got := asJSON(t, tc.got); got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, got, tc.want)
		}
	}
	l.must(register("m", nil))
	if rows, _ := l.sn.HealthService("web", Select{Tags: []string{"x"}}); len(rows) != 0 {
		t.Error("tag x found something")
	}
	l.must(&Deregister{Node: "n", CheckID: "http"})
	if rows, _ := l.sn.HealthService("web", Select{Passing: true}); asJSON(t, rows[0].Checks) != "[]" {
		t.Errorf("no checks read %s", asJSON(t, rows[0].Checks))
	}
}

func TestSelect(t *testing.T) {
	l := newLab(t)
	for name, rack := range map[string]string{"a": "1", "b": "2"} {
		r := register(name, service("w", "web", "Prod", "rack"+rack), check("c", "w", map[string]string{"a": "passing", "b": "warning"}[name]))
		r.Node.Meta = map[string]string{"rack": rack}
		l.must(r)
	}
	l.must(register("c", service("w", "web", "test")))
	for _, tc := range []struct {
		name string
		sel  Select
		want string
	}{
		{"all", Select{}, "abc"},
		{"tag in other case", Select{Tags: []string{"PROD"}}, "ab"},
		{"all tags", Select{Tags: []string{"prod", "rack2"}}, "b"},
		{"node meta", Select{NodeMeta: map[string]string{"rack": "1"}}, "a"},
		{"empty node meta", Select{NodeMeta: map[string]string{"rack": ""}}, ""},
		{"passing", Select{Passing: true}, "ac"},
		{"passing with tag", Select{Passing: true, Tags: []string{"prod"}}, "a"},
	} {
		var got string
		rows, _ := l.sn.HealthService("web", tc.sel)
		for _, row := range rows {
			got += row.Node.Node
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if got, _ := l.sn.Services(map[string]string{"rack": "1"}); asJSON(t, got) != `{"web":["Prod","rack1"]}` {
		t.Errorf("services of rack 1 are %v", got)
	}
}

func TestAServicesChecksFollowIt(t *testing.T) {
	l := newLab(t)
	l.must(register("n", service("w", "web", "a"), check("c", "w", "passing"), check("node", "", "passing")))
	l.must(register("n", service("w", "www", "b")))
	checks, meta := l.sn.HealthChecks("www", nil)
	if len(checks) != 1 || checks[0].ServiceTags[0] != "b" || meta.Index != 11 {
		t.Errorf("checks of www are %s at %d", asJSON(t, checks), meta.Index)
	}
	if checks, meta := l.sn.HealthChecks("web", nil); len(checks) != 0 || meta.Index != 11 {
		t.Errorf("checks of web are %s at %d", asJSON(t, checks), meta.Index)
	}
	l.must(&Deregister{Node: "n", ServiceID: "w"})
	if checks, _ := l.sn.HealthNode("n"); len(checks) != 1 || checks[0].CheckID != "node" {
		t.Errorf("left over: %s", asJSON(t, checks))
	}
}
