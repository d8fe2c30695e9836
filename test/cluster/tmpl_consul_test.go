package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// What is written into both, by path and body.
var bothHave = [][2]string{
	{"/v1/kv/app/port", "8080"},
	{"/v1/kv/app/db/host", "10.0.0.9"},
	{"/v1/kv/app/empty", ""},
	{"/v1/kv/app/n", "3"},
	{"/v1/kv/sp ace/größe %2f?#+;&", "odd"},
	{"/v1/catalog/register", `{"Node": "n1", "Address": "10.0.0.1", "NodeMeta": {"rack": "r1"}, "TaggedAddresses": {"lan": "10.0.0.1", "wan": "1.2.3.4"},
		"Service": {"Service": "web", "ID": "w1", "Port": 80, "Tags": ["prod", "blue"], "Meta": {"weight": "5"}, "Weights": {"Passing": 10, "Warning": 2},
			"TaggedAddresses": {"lan": {"Address": "10.1.1.1", "Port": 81}}},
		"Checks": [{"Node": "n1", "CheckID": "c1", "Name": "c", "Status": "passing", "ServiceID": "w1", "Notes": "note", "Output": "out"},
			{"Node": "n1", "CheckID": "n", "Name": "of the node", "Status": "warning"}]}`},
	{"/v1/catalog/register", `{"Node": "n2", "Address": "10.0.0.2", "Service": {"Service": "web", "ID": "w2", "Address": "::1"}}`},
	{"/v1/catalog/register", `{"Node": "n2", "Address": "10.0.0.2", "Checks": [{"Node": "n2", "CheckID": "_service_maintenance:w2", "Name": "m", "Status": "critical", "ServiceID": "w2"}]}`},
	{"/v1/catalog/register", `{"Node": "n3", "Address": "10.0.0.3", "Service": {"Service": "parent/test", "ID": "p"}}`},
	{"/v1/catalog/register", `{"Node": "n3", "Address": "10.0.0.3", "Service": {"Service": "web 1", "ID": "b"}}`},
	{"/v1/catalog/register", `{"Node": "n3", "Address": "10.0.0.3", "Service": {"Service": "größe", "ID": "g"}}`},
	{"/v1/catalog/register", `{"Node": "n3", "Address": "10.0.0.3", "Service": {"Service": "go.micro.api", "ID": "d"}}`},
	{"/v1/catalog/register", `{"Node": "n3", "Address": "10.0.0.3", "Service": {"Service": "user@host", "ID": "u"}}`},
	{"/v1/catalog/register", `{"Node": "n3", "Address": "10.0.0.3", "Service": {"Service": "we?b#%20", "ID": "q"}}`},
	{"/v1/catalog/register", `{"Node": "n 4/ö", "Address": "10.0.0.4"}`},
}

// Templates whose text is the same whoever answers, with what that is.
var sameText = [][2]string{
	{`{{key "app/port"}} {{key "/app/port"}} {{key "//app/port"}} {{key "app//port"}} {{key "./app/port"}} {{key "app/x/../port"}}`, "8080 8080 8080 8080 8080 8080"},
	{`{{keyOrDefault "app//port" "d"}} {{keyOrDefault "app/./port" "d"}} {{keyOrDefault "app//none" "d"}} {{keyOrDefault "../kv/app/port" "d"}} {{keyOrDefault "../agent/self" "d"}}`, "8080 8080 d 8080 d"},
	{`{{keyExists "//app/port"}} {{keyExists "app//none"}} {{keyExists "app/db/.."}} {{keyExists "."}}`, "true false false false"},
	{`{{range tree "app//"}}{{.Path}} {{end}}{{range tree "./app/x/../db"}}{{.Path}} {{end}}`, "app/db/host app/empty app/n app/port app/db/host "},
	{`{{range ls "/app/"}}{{.Key}} {{end}}{{len (ls "//app")}} {{len (ls "..")}}`, "empty n port 0 0"}, // relative to //app is app/n: two levels
	{`{{range tree ""}}{{.Key}} {{end}}`, "app/db/host app/empty app/n app/port sp ace/größe %2f?#+;& "},
	{`{{range tree "/"}}{{.Key}} {{end}}{{len (ls "")}}`, "app/db/host app/empty app/n app/port sp ace/größe %2f?#+;& 0"},
	{`{{key "sp ace/größe %2f?#+;&"}} {{range loop (key "app/n")}}{{.}}{{end}}`, "odd 012"},
	{`{{range service "web|any"}}{{.ID}}=[{{.ServiceMeta.weight}}]{{.ServiceMeta.weight | parseInt}} {{end}}`, "w1=[5]5 w2=[]0 "},
	{`{{range services}}{{if ne .Name "consul"}}{{.Name}}={{range service .Name "any"}}{{.ID}} {{end}}{{end}}{{end}}`,
		"go.micro.api=d größe=g parent/test=p user@host=u we?b#%20=q web=w1 w2 web 1=b "},
	{`{{range service "web|any"}}{{.Node}} {{.NodeID}} {{.NodeAddress}} {{.NodeDatacenter}} {{.NodeTaggedAddresses}} {{.NodeMeta}} {{.ServiceMeta}} {{.Address}} {{.ServiceTaggedAddresses}} ` +
		`{{.ID}} {{.Name}} {{.Tags}} {{.Status}} {{.Port}} {{.Weights}} {{.Checks.AggregatedStatus}};{{end}}`,
		"n1  10.0.0.1 dc1 map[lan:10.0.0.1 wan:1.2.3.4] map[rack:r1] map[weight:5] 10.0.0.1 map[lan:{10.1.1.1 81}] w1 web [blue prod] warning 80 {10 2} warning;" +
			"n2  10.0.0.2 dc1 map[] map[] map[] ::1 map[] w2 web [] maintenance 0 {1 1} maintenance;"},
	{`{{range service "web|any"}}{{range .Checks}}{{.Node}} {{.CheckID}} {{.Name}} {{.Status}} {{.Notes}} {{.Output}} {{.ServiceID}} {{.ServiceName}} {{.ServiceTags}} {{.Type}} {{.Namespace}}{{.Partition}}{{.PeerName}};{{end}}{{end}}`,
		"n1 n of the node warning     []  ;n1 c1 c passing note out w1 web [prod blue]  ;n2 _service_maintenance:w2 m critical   w2 web []  ;"},
	{`{{with node "n1"}}{{.Node.ID}}{{.Node.Node}} {{.Node.Address}} {{.Node.Datacenter}} {{.Node.TaggedAddresses}} {{.Node.Meta}}{{range .Services}} {{.ID}} {{.Service}} {{.Tags}} {{.Meta}} {{.Port}} {{.Address}} {{.EnableTagOverride}}{{end}}{{end}}`,
		"n1 10.0.0.1 dc1 map[lan:10.0.0.1 wan:1.2.3.4] map[rack:r1] w1 web [blue prod] map[weight:5] 80  false"},
	{`{{range nodes}}{{if .Meta.rack}}{{.Node}}{{end}}{{with node .Node}}{{if eq .Node.Address "10.0.0.4"}} {{.Node.Node}}{{end}}{{end}}{{end}}`, " n 4/ön1"},
	{`{{range nodes}}{{len (service (printf "web~%s|any" .Node))}}{{len (nodes (printf "~%s" .Node))}} {{end}}`, "25 25 25 25 25 "},
	{`{{with node "none"}}{{.Node}} {{len .Services}}{{end}}{{with node ".."}}{{.Node}}{{end}}`, "<nil> 0<nil>"},
}

// A template gives the same text at our own agent and at one of the reference's, whatever
// names and paths there are; envexec and watch find the same keys.
func TestTemplatesBesideConsul(t *testing.T) {
	t.Run("muster", func(t *testing.T) {
		a := harness.Dev(t)
		testSameText(t, a.Folder(t), a.Addr())
	})
	t.Run("consul", func(t *testing.T) {
		_, f, _ := besideConsul(t)
		at := f.Env[slices.IndexFunc(f.Env, func(s string) bool { return strings.HasPrefix(s, "CONSUL_HTTP_ADDR=") })]
		testSameText(t, f, strings.TrimPrefix(at, "CONSUL_HTTP_ADDR="))
	})
}

func testSameText(t *testing.T, f *harness.Folder, addr string) {
	c, err := client.New(client.Config{Address: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	for _, have := range bothHave {
		if _, err := c.Put(t.Context(), have[0], nil, []byte(have[1]), nil); err != nil {
			t.Fatalf("PUT %s: %v", have[0], err)
		}
	}
	args := []string{"-once", "-timeout", "30s"}
	for i, same := range sameText {
		f.Write(fmt.Sprint("in", i), same[0])
		args = append(args, "-template", fmt.Sprintf("in%d:out%d", i, i))
	}
	if code, _, stderr := f.Once("tmpl", args...); code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	for i, same := range sameText {
		if got := f.Read(fmt.Sprint("out", i)); got != same[1] {
			t.Errorf("%s\n got %q\nwant %q", same[0], got, same[1])
		}
	}
	code, stdout, stderr := f.Once("envexec", "-pristine", "-once", "-prefix", "app//db/..//", "env")
	if code != 0 || !strings.Contains(stdout, "port=8080\n") || !strings.Contains(stdout, "db_host=10.0.0.9\n") {
		t.Errorf("envexec: code %d, %q, %s", code, stdout, stderr)
	}
	f.Write("show", "#!/bin/sh\nexec tee seen >/dev/null\n")
	f.Run("watch", "-type=key", "-key=//app/./port", "./show")
	f.AwaitPart("seen", `"Key":"app/port"`)
}
