package httpapi

import (
	"reflect"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

func TestFilterMatches(t *testing.T) {
	row := &api.CheckServiceNode{
		Node: &api.Node{Node: "n1", Meta: map[string]string{"rack": "r1", "a-b": "c"}},
		Service: &api.NodeService{
			Service: "web", Tags: []string{"v1", "blue"}, Port: 80, EnableTagOverride: true, Weights: api.Weights{Passing: 3},
			TaggedAddresses: map[string]api.ServiceAddress{"lan": {Address: "10.0.0.1", Port: 81}},
		},
		Checks: []*api.HealthCheck{{CheckID: "c1", Status: "passing"}, {CheckID: "c2", Status: "warning"}},
	}
	for expr, want := range map[string]bool{
		`Service.Service == "web"`:                         true,
		`Service.Service == web and Service.Port != 80`:    false,
		`not Service.Service == web or Service.Port == 80`: true,
		`Service.Service in "x"`:                           false,
		`"e" in Service.Service`:                           true,
		`"v1" in Service.Tags`:                             true,
		`"v" in Service.Tags`:                              false,
		`Service.Tags contains "blue"`:                     true,
		`Service.Tags not contains "blue"`:                 false,
		`"rack" in Node.Meta`:                              true,
		`"none" not in Node.Meta`:                          true,
		`Node.Meta.rack == "r1"`:                           true,
		`Node.Meta["a-b"] == "c"`:                          true,
		`Node.Meta.none == ""`:                             false,
		`Node.Meta.none != "x"`:                            true,
		`Node.Meta.none not matches "x"`:                   true,
		`Node.Meta is empty`:                               false,
		`Service.Meta is empty`:                            true,
		`Service.Address is not empty`:                     false,
		`Node.Node matches "^n[0-9]$"`:                     true,
		"Node.Node not matches `^n`":                       false,
		`Service.EnableTagOverride == true`:                true,
		`Service.Weights.Passing == 3`:                     true,
		`Service.TaggedAddresses.lan.Port == 81`:           true,
		`Service.TaggedAddresses.wan.Port == 81`:           false,
		`Service.Connect.Native == true`:                   false,
		`Checks.Status == "warning"`:                       true,
		`Checks.Status == "critical"`:                      false,
		`Checks.Status != "passing"`:                       true,
		`Checks is not empty`:                              true,
		`(Checks.CheckID == c1 or Checks.CheckID == c9) and Service.Port == 80`: true,
	} {
		match, err := compileFilter(expr, reflect.TypeOf(row))
		if expr == `Service.Service in "x"` {
			if err == nil {
				t.Errorf("%s: no syntax error", expr)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := match(reflect.ValueOf(row)); got != want {
			t.Errorf("%s is %v", expr, got)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for expr, text := range map[string]string{
		`Foo == 1`:                              `Selector "Foo" is not valid`,
		`Node.Foo == 1`:                         `Selector "Node.Foo" is not valid`,
		`Node == 1`:                             `Selector "Node" is not valid`,
		`Node.Node.More == 1`:                   `Selector "Node.Node.More" is not valid`,
		`Node.CreateIndex == 1`:                 `is not valid`,
		`Checks.Definition.HTTP == x`:           `is not valid`,
		`Node.Meta.x is empty`:                  `Invalid match operator "Is Empty" for selector "Node.Meta.x"`,
		`Service.Port matches "8"`:              `Invalid match operator "Matches" for selector "Service.Port"`,
		`Service.Port is empty`:                 `Invalid match operator`,
		`"8" in Service.Port`:                   `Invalid match operator`,
		`Service.Tags == "x"`:                   `Invalid match operator`,
		`Service.Port == "x"`:                   `invalid syntax`,
		`Service.EnableTagOverride == 7`:        `invalid syntax`,
		`Node.Node matches "("`:                 `failed to compile regular expression`,
		`Node.Node ==`:                          `no match found, expected`,
		`any Checks as c { c.Status == x }`:     `not supported`,
		strings.Repeat("x", maxFilterLen+1):     `longer than`,
		strings.Repeat("(", 3000) + `Node == x`: ``,
	} {
		_, err := compileFilter(expr, reflect.TypeFor[*api.CheckServiceNode]())
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.60s: error %v, want %q", expr, err, text)
		}
	}
}

func TestFilterOverHTTP(t *testing.T) {
	r := newRig(t)
	const prefix = "Failed to create boolean expression evaluator: "
	r.check(t, []want{
		{"GET /v1/catalog/nodes?filter=Foo==1", "", 500, prefix + `Selector "Foo" is not valid`},
		{"GET /v1/catalog/nodes?filter=Node+=", "", 500, "~" + prefix + "1:"},
		{"GET /v1/catalog/nodes?filter=", "", 200, "[]"},
		{"GET /v1/kv/?keys&filter=Foo==1", "", 200, "[]"},
	})
}
