package funcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// fixture is a small world that answers every query.
type fixture struct {
	Self        string
	Datacenters []string
	KV          map[string]string
	Nodes       []*api.Node
	Instances   []*api.CheckServiceNode
	Files       map[string]string
}

func loadFixture(t testing.TB, path string) *fixture {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{}
	if err := json.Unmarshal(data, f); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

func (f *fixture) answer(q query.Query) any {
	switch q.Kind {
	case query.KindKey:
		value, exists := f.KV[q.Name]
		if !exists {
			return (*api.KVPair)(nil)
		}
		return &api.KVPair{Key: q.Name, Value: []byte(value), ModifyIndex: 7}
	case query.KindPrefix:
		pairs := []*api.KVPair{}
		for _, key := range sortedKeys(f.KV) {
			if strings.HasPrefix(key, q.Name) {
				pairs = append(pairs, &api.KVPair{Key: key, Value: []byte(f.KV[key]), ModifyIndex: 7})
			}
		}
		return pairs
	case query.KindService:
		return f.instances(q)
	case query.KindServices:
		byName := map[string][]string{}
		for _, in := range f.Instances {
			byName[in.Service.Service] = append(byName[in.Service.Service], in.Service.Tags...)
			slices.Sort(byName[in.Service.Service])
			byName[in.Service.Service] = slices.Compact(byName[in.Service.Service])
		}
		return byName
	case query.KindNodes:
		return f.Nodes
	case query.KindNode:
		return f.node(q)
	case query.KindDatacenters:
		return f.Datacenters
	case query.KindFile:
		if text, exists := f.Files[q.Name]; exists {
			return text
		}
		return fmt.Errorf("open %s: no such file", q.Name)
	default:
		return fmt.Errorf("no kind %q", q.Kind)
	}
}

func (f *fixture) instances(q query.Query) []*api.CheckServiceNode {
	out := []*api.CheckServiceNode{}
	for _, in := range f.Instances {
		if in.Service.Service == q.Name && (q.Tag == "" || slices.Contains(in.Service.Tags, q.Tag)) &&
			(!q.Passing || api.AggregatedStatus(in.Checks) == api.HealthPassing) {
			out = append(out, in)
		}
	}
	return out
}

func (f *fixture) node(q query.Query) *api.NodeServices {
	name := q.Name
	if name == "" {
		name = f.Self
	}
	i := slices.IndexFunc(f.Nodes, func(n *api.Node) bool { return n.Node == name })
	if i < 0 {
		return nil
	}
	out := &api.NodeServices{Node: f.Nodes[i], Services: map[string]*api.NodeService{}}
	for _, in := range f.Instances {
		if in.Node.Node == name {
			out.Services[in.Service.ID] = in.Service
		}
	}
	return out
}

// source lets a fixture answer a pass late: only queries that the pass before
// asked for are known, as in a real tool.
type source struct {
	world   *fixture
	known   map[query.Query]bool
	asked   map[query.Query]bool
	blocked []query.Query
}

func (s *source) Lookup(q query.Query) (any, bool) {
	s.asked[q] = true
	if !s.known[q] {
		return nil, false
	}
	return s.world.answer(q), true
}

func (s *source) Block(q query.Query) { s.blocked = append(s.blocked, q) }

// settle runs passes until one asks for nothing new.
func settle(t testing.TB, tmpl *Template, world *fixture) (out *Output, src *source, passes int, err error) {
	t.Helper()
	known := map[query.Query]bool{}
	for passes = 1; passes < 20; passes++ {
		src = &source{world: world, known: known, asked: map[query.Query]bool{}}
		out, err = tmpl.Execute(context.Background(), src)
		before := len(known)
		maps.Copy(known, src.asked)
		if len(known) == before {
			return out, src, passes, err
		}
	}
	t.Fatal("the passes do not settle")
	return nil, nil, 0, nil
}

// eval renders one expression over the fixture that all the tables share.
func eval(t testing.TB, text string, o Options) (string, error) {
	t.Helper()
	tmpl, err := Parse("expr", text, o)
	if err != nil {
		return "", err
	}
	out, src, _, err := settle(t, tmpl, loadFixture(t, "testdata/world.json"))
	if err == nil && !out.Complete {
		err = fmt.Errorf("blocked by %v", src.blocked)
	}
	return string(out.Text), err
}

// exprCase is one row: a template and its text, or a part of its error.
type exprCase struct{ text, want, err string }

func checkExprs(t *testing.T, cases []exprCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.text, func(t *testing.T) {
			got, err := eval(t, c.text, Options{})
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %q", err, c.err)
			case c.err == "" && err != nil:
				t.Errorf("error: %v", err)
			case c.err == "" && got != c.want:
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestKV(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{key "app/port"}}`, "8080", ""},
		{`{{key "/app/port"}}`, "8080", ""},
		{`{{key "app/empty"}}.`, ".", ""},
		{`{{key ""}}.`, ".", ""},
		{`{{key "app/none"}}`, "", "blocked by [kv.get(app/none)]"},
		{`{{if keyExists "app/none"}}{{key "app/none"}}{{else}}no{{end}}`, "no", ""},
		{`{{keyExists "app/port"}} {{keyExists "app/empty"}} {{keyExists "app/none"}} {{keyExists ""}}`, "true true false false", ""},
		{`{{keyOrDefault "app/port" "1"}} {{keyOrDefault "app/none" "2"}} {{keyOrDefault "app/empty" "3"}}`, "8080 2 3", ""},
		{`{{range ls "app"}}{{.Key}}={{.Value}} {{end}}`, "empty= port=8080 ", ""},
		{`{{range ls "app/"}}{{.Key}}={{.Path}} {{end}}`, "empty=app/empty port=app/port ", ""},
		{`{{range tree "app"}}{{.Key}}={{.Value}} {{end}}`, "db/host=10.0.0.9 db/name=main empty= port=8080 ", ""},
		{`{{range tree "app/db"}}{{.Key}},{{.Path}},{{.ModifyIndex}} {{end}}`, "host,app/db/host,7 name,app/db/name,7 ", ""},
		{`{{len (tree "")}} {{len (tree "/")}}`, "7 7", ""},
		{`{{range ls "none"}}x{{else}}empty{{end}}`, "empty", ""},
		{`{{range tree "none"}}x{{else}}empty{{end}}`, "empty", ""},
		{`{{range safeLs "none"}}x{{else}}empty{{end}}`, "", "blocked by [kv.list(none)]"},
		{`{{range safeTree "none"}}x{{end}}`, "", "blocked by [kv.list(none)]"},
		{`{{range safeLs "app"}}{{.Key}} {{end}}{{range safeTree "app/db"}}{{.Key}} {{end}}`, "empty port host name ", ""},
		{`{{safeLs "groups"}}`, "", "blocked by [kv.list(groups)]"}, // folders only
		{`{{key "a@b@c"}}`, "", `kv.get: invalid format: "a@b@c"`},
		{`{{keyExists "@dc"}}`, "", `kv.exists: invalid format: "@dc"`},
		{`{{ls "a@"}}`, "", `kv.list: invalid format: "a@"`},
		{`{{range $g, $p := tree "groups" | byKey}}{{$g}}:{{range $k, $v := $p}} {{$k}}={{$v.Value}}({{$v.Key}}){{end}};{{end}}`,
			"a: x=1(x) y/z=2(y/z);b: x=3(x);", ""},
		{`{{len (ls "app" | byKey)}}`, "0", ""},
		{`{{with tree "app" | explode}}{{.port}} {{.db.host}}{{end}}`, "8080 10.0.0.9", ""},
		{`{{scratch.MapSet "m" "a/b" 1}}{{scratch.MapSet "m" "a/c" 2}}{{scratch.Get "m" | explodeMap | toJSON}}`, `{"a":{"b":1,"c":2}}`, ""},
		{`{{scratch.MapSet "m" "a" 1}}{{scratch.MapSet "m" "a/c" 2}}{{scratch.Get "m" | explodeMap}}`, "", `not a map: "a/c": "a" already has value`},
	})
}

func TestCatalog(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{range service "web"}}{{.ID}}@{{.Node}}={{.Address}}:{{.Port}} {{end}}`, "web-1@n1=10.0.0.1:80 web-2@n2=10.1.0.2:81 ", ""},
		{`{{range service "web|passing"}}{{.ID}} {{end}}`, "web-1 web-2 ", ""},
		{`{{range service "web|any"}}{{.ID}}:{{.Status}} {{end}}`,
			"web-1:passing web-2:passing web-3:critical web-4:maintenance web-5:warning ", ""},
		{`{{range service "web" "any"}}{{.ID}} {{end}}`, "web-1 web-2 web-3 web-4 web-5 ", ""},
		{`{{range service "web|passing,warning"}}{{.ID}} {{end}}`, "web-1 web-2 web-5 ", ""},
		{`{{range service "web|critical"}}{{.ID}} {{end}}`, "web-3 ", ""},
		{`{{range service "blue.web"}}{{.ID}} {{end}}`, "web-2 ", ""},
		{`{{range service "web~n2"}}{{.ID}} {{end}}`, "web-2 web-1 ", ""}, // the server's order
		{`{{range service "web|any"}}{{.Checks.AggregatedStatus}} {{end}}{{(index (service "cache") 0).Checks.AggregatedStatus}}`,
			"passing passing critical maintenance warning passing", ""},
		{`{{range service "web"}}{{range .Checks}}{{.CheckID}} {{.Status}}{{.Namespace}}{{.Partition}}{{.PeerName}} {{.Definition.HTTP}}{{.Definition.Interval}} {{.Definition.IntervalDuration}} ` +
			`{{.Definition.TimeoutDuration}} {{.Definition.DeregisterCriticalServiceAfterDuration}} {{.ExposedPort}}{{len .ServiceTags}}{{end}};{{end}}`,
			"c passing 0s 0s 0s 0s 00;c passing 0s 0s 0s 0s 00;", ""},
		{`{{with index (service "web") 0}}{{.Checks | toJSON}}{{end}}`, `[{"Node":"","CheckID":"c","Name":"","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":null,` +
			`"Type":"","ExposedPort":0,"Definition":{"Interval":"0s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s","HTTP":"","Header":null,"Method":"","Body":"","TLSServerName":"",` +
			`"TLSSkipVerify":false,"TCP":"","TCPUseTLS":false,"UDP":"","GRPC":"","OSService":"","GRPCUseTLS":false},"CreateIndex":0,"ModifyIndex":0}]`, ""},
		{`{{with index (service "web") 0}}{{.Checks | toYAML}}{{end}}`, "- node: \"\"\n  checkid: c\n  name: \"\"\n  status: passing\n  notes: \"\"\n  output: \"\"\n  serviceid: \"\"\n" +
			"  servicename: \"\"\n  servicetags: []\n  type: \"\"\n  namespace: \"\"\n  partition: \"\"\n  exposedport: 0\n  peername: \"\"\n  definition:\n    http: \"\"\n    header: {}\n" +
			"    method: \"\"\n    body: \"\"\n    tlsservername: \"\"\n    tlsskipverify: false\n    tcp: \"\"\n    tcpusetls: false\n    udp: \"\"\n    grpc: \"\"\n    osservice: \"\"\n" +
			"    grpcusetls: false\n    intervalduration: 0s\n    timeoutduration: 0s\n    deregistercriticalserviceafterduration: 0s\n    sessionname: \"\"\n    interval: 0\n    timeout: 0\n" +
			"    deregistercriticalserviceafter: 0\n  createindex: 0\n  modifyindex: 0", ""},
		{`{{node "none" | toJSON}} {{(service "cache") | toJSON}}`, `{"Node":null,"Services":null} [{"Node":"n3","NodeID":"","NodeAddress":"10.0.0.3","NodeTaggedAddresses":null,"NodeMeta":null,` +
			`"ServiceMeta":null,"Address":"10.0.0.3","ServiceTaggedAddresses":null,"ID":"cache-1","Name":"cache","Tags":[],"Checks":[],"Status":"passing","Port":0,"Weights":{"Passing":0,"Warning":0}}]`, ""},
		{`{{range service "none"}}x{{else}}-{{end}}{{range service ""}}x{{else}}-{{end}}`, "--", ""},
		{`{{with index (service "web") 0}}{{.NodeAddress}} {{.NodeMeta.rack}} {{.ServiceMeta.shard}} {{.Weights.Passing}} {{len .Checks}}{{end}}`,
			"10.0.0.1 r1 2 10 1", ""},
		{`{{range service "web"}}{{.Tags | join ","}} {{.Tags.Contains "blue"}} {{.Tags | contains "blue"}} {{in .Tags "green"}};{{end}}`,
			"green,prod false false true;blue,prod true true false;", ""},
		{`{{with index (service "web") 0}}{{.Tags.ContainsAll "green" "prod"}} {{.Tags.ContainsAny "x" "prod"}} {{.Tags.ContainsNone "x"}}{{end}}`,
			"true true true", ""},
		{`{{range services}}{{.Name}}[{{.Tags | join ","}}] {{end}}`, "cache[] web[blue,green,prod] ", ""},
		{`{{range services "@dc1"}}{{.Name}} {{end}}`, "cache web ", ""},
		{`{{range nodes}}{{.Node}}={{.Address}} {{end}}`, "n1=10.0.0.1 n2=10.0.0.2 n3=10.0.0.3 ", ""},
		{`{{range nodes "@dc1~_agent"}}{{.Node}} {{end}}`, "n2 n1 n3 ", ""},
		{`{{with node}}{{.Node.Node}}:{{range .Services}} {{.ID}}/{{.Port}}{{end}}{{end}}`, "n3: cache-1/0 web-3/80", ""},
		{`{{with node "n1@dc1"}}{{.Node.Address}} {{.Node.Meta.rack}}{{end}}`, "10.0.0.1 r1", ""},
		{`{{with node "none"}}entered {{.Node}} {{len .Services}}{{end}}`, "entered <nil> 0", ""},
		{`{{datacenters | join " "}} {{datacenters true | join " "}}`, "dc1 dc2 dc1 dc2", ""},
		{`{{datacenters true true}}`, "", "datacenters: wrong number of arguments"},
		{`{{service "a.b.c|sick"}}`, "", `health.service: invalid filter: "sick" in "a.b.c|sick"`},
		{`{{service "web@"}}`, "", `health.service: invalid format: "web@"`},
		{`{{services "x"}}`, "", `catalog.services: invalid format: "x"`},
		{`{{with node "n/1"}}{{.Node}}{{end}}{{with node ".."}}{{.Node}}{{end}}`, "<nil><nil>", ""}, // no such node
		{`{{nodes "@@"}}`, "", `catalog.nodes: invalid format: "@@"`},
		{`{{file "/etc/motd"}}`, "hello\n", ""},
		{`{{file "/none"}}`, "", "file(/none): open /none: no such file"},
	})
}

// TestDataIsNotModified: sorting a list in a template must not reach the source.
func TestDataIsNotModified(t *testing.T) {
	world := loadFixture(t, "testdata/world.json")
	before, _ := json.Marshal(world)
	tmpl, err := Parse("x", `{{range service "web|any"}}{{.Tags | sortAlpha}}{{.Tags | reverse}}{{end}}{{range services}}{{.Tags | sortAlpha}}{{end}}`+
		`{{datacenters | reverse}}{{datacenters | sortAlpha}}{{(node).Services}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := settle(t, tmpl, world); err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(world); string(after) != string(before) {
		t.Errorf("the data was modified:\n%s\n%s", before, after)
	}
}

// answers is a Source that knows everything and says always the same.
type answers struct{ value any }

func (a answers) Lookup(query.Query) (any, bool) { return a.value, true }
func (a answers) Block(query.Query)              {}

func TestWrongAnswersAreErrors(t *testing.T) {
	down := errors.New("No path to datacenter")
	for name, c := range map[string]struct {
		value any
		want  string
	}{
		"error":      {down, "kv.get(a@dc9): No path to datacenter"},
		"wrong type": {42, "kv.get(a@dc9): the answer is a int instead of a *api.KVPair"},
	} {
		tmpl, err := Parse("x.ctmpl", "\n\n{{ key \"a@dc9\" }}", Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tmpl.Execute(context.Background(), answers{c.value})
		if err == nil || !strings.HasSuffix(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.ctmpl:3:") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "error" && !errors.Is(err, down) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
}
