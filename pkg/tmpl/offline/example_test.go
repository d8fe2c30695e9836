package offline

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/tmpl"
)

// Two nodes may register instances of one id: HAProxy refuses two servers of one name.
func TestHAProxyExampleWithOneIDOnTwoNodes(t *testing.T) {
	var answer []*api.CheckServiceNode
	for _, node := range []string{"n1", "n2"} {
		answer = append(answer, &api.CheckServiceNode{
			Node:    &api.Node{Node: node, Address: "10.0.0." + node[1:]},
			Service: &api.NodeService{ID: "web", Service: "web", Port: 80},
		})
	}
	body, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	fixture := Fixture{"/v1/health/service/web?passing=1": body}
	out, _, err := tmpl.Render(t.Context(), []tmpl.Template{{Source: "../../../examples/haproxy/haproxy.ctmpl"}}, fixture.Fetch)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\s+server (\S+)`).FindAllSubmatch(out[0].Text, -1) {
		names[string(m[1])] = true
	}
	if !names["n1-web"] || !names["n2-web"] || len(names) != 2 {
		t.Errorf("servers %v in\n%s", names, out[0].Text)
	}
}
