package handlers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/watch"
)

// The input of handlers is, byte for byte, that of Consul 1.8.7 for the same answer of
// its API. testdata has both, as recorded.
func TestInputIsThatOfTheReference(t *testing.T) {
	specs := map[string]Spec{
		"key": {Type: typeKey, Key: "a/lock"}, "keyprefix": {Type: typeKeyPrefix, Prefix: "a/"}, "services": {Type: typeServices},
		"nodes": {Type: typeNodes}, "service": {Type: typeService, Service: "db"}, "service-own": {Type: typeService, Service: "adr"},
		"checks": {Type: typeChecks}, "event": {Type: typeEvent},
	}
	files, err := filepath.Glob("testdata/*.answer.json")
	if err != nil || len(files) != len(specs) {
		t.Fatal(files, err)
	}
	for name, spec := range specs {
		answer, err := os.ReadFile("testdata/" + name + ".answer.json")
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("testdata/" + name + ".handler.json")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(bodyOf(t, spec, answer)) + "\n"; got != string(want) {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
}

func TestInputOfNothing(t *testing.T) {
	for _, c := range []struct {
		spec         Spec
		answer, want string
	}{
		{Spec{Type: typeKey, Key: "a"}, "", "null"},
		{Spec{Type: typeKeyPrefix, Prefix: "a"}, "", "null"},
		{Spec{Type: typeServices}, "{}", "{}"},
		{Spec{Type: typeService, Service: "a"}, "[]", "[]"},
		{Spec{Type: typeService, Service: "a"}, "null", "[]"},
		{Spec{Type: typeChecks}, "[]", "[]"},
		{Spec{Type: typeEvent}, "[]", "[]"},
	} {
		var answer []byte
		if c.answer != "" {
			answer = []byte(c.answer)
		}
		if got := bodyOf(t, c.spec, answer); string(got) != c.want {
			t.Errorf("%s: %s, want %s", c.spec.String(), got, c.want)
		}
	}
}

func bodyOf(t *testing.T, spec Spec, answer []byte) []byte {
	t.Helper()
	result, err := watch.DecodeStored(spec.Request(), answer, 1)
	if err != nil {
		t.Fatal(err)
	}
	v, err := updateOf(result)
	if err != nil {
		t.Fatal(err)
	}
	return v.body()
}

func TestChanges(t *testing.T) {
	was := []item{{Key: "a", Data: []byte(`1`)}, {Key: "b", Data: []byte(`2`)}, {Key: "c", Data: []byte(`3`)}}
	now := update{index: 9, form: list, items: []item{{Key: "b", Data: []byte(`2`)}, {Key: "c", Data: []byte(`4`)}, {Key: "d", Data: []byte(`5`)}}}
	got, err := lines(changes(was, "", now))
	want := `{"op":"modify","key":"c","old":3,"new":4,"index":9}
{"op":"add","key":"d","old":null,"new":5,"index":9}
{"op":"delete","key":"a","old":1,"new":null,"index":9}
`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want\n%s", got, err, want)
	}
}

func TestRequests(t *testing.T) {
	yes := true
	for want, s := range map[string]Spec{
		"/v1/kv/a/b":          {Type: typeKey, Key: "/a/b"},
		"/v1/kv/a/?recurse=":  {Type: typeKeyPrefix, Prefix: "a/"},
		"/v1/health/checks/w": {Type: typeChecks, Service: "w"},
		"/v1/health/service/w?dc=east&filter=a+%3D%3D+b&passing=1&tag=x&tag=y": {
			Type: typeService, Service: "w", Tags: []string{"x", "y"}, PassingOnly: &yes, Filter: "a == b", Datacenter: "east"},
		"/v1/health/state/any":     {Type: typeChecks},
		"/v1/health/state/warning": {Type: typeChecks, State: "warning"},
		"/v1/event/list?name=go":   {Type: typeEvent, Name: "go"},
	} {
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := s.Request().String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestRead(t *testing.T) {
	specs, err := Read("watches", []map[string]any{{
		"type": "service", "service": "web", "tag": "a", "passingonly": "true", "args": []any{"x", "y"}, "settle": "2s", "overlap": "kill",
	}, {"type": "key", "key": "k", "http_handler_config": []any{map[string]any{"path": "http://h/x", "timeout": "3s", "header": map[string]any{"A": []any{"b"}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if s := specs[0]; s.Tags[0] != "a" || !*s.PassingOnly || len(s.Args) != 2 || s.Settle.Seconds() != 2 || s.Overlap != OverlapKill {
		t.Errorf("%+v", s)
	}
	if h := specs[1].HTTP; h.Path != "http://h/x" || h.Timeout.Seconds() != 3 || h.Header["A"][0] != "b" || h.method() != "POST" {
		t.Errorf("%+v", h)
	}
	for want, entry := range map[string]map[string]any{
		"Watch type must be specified":          {"args": "x"},
		"Unsupported watch type: agent_service": {"type": "agent_service", "args": "x"},
		"Invalid parameters: [key state]":       {"type": "nodes", "key": "a", "state": "any", "args": "x"},
		"Must define a watch handler":           {"type": "nodes"},
		"Only one watch handler allowed":        {"type": "nodes", "args": "x", "http_handler_config": map[string]any{"path": "http://h"}},
		"Handler type 'tea' not recognized":     {"type": "nodes", "args": "x", "handler_type": "tea"},
		"Requires 'path' to be set":             {"type": "nodes", "handler_type": "http", "http_handler_config": map[string]any{}},
		"want a URL":                            {"type": "nodes", "http_handler_config": map[string]any{"path": "h:80"}},
		"want never, if-changed or always":      {"type": "nodes", "args": "x", "initial": "once"},
		"dead_letters needs attempts":           {"type": "nodes", "args": "x", "dead_letters": "x"},
		"args":                                  {"type": "nodes", "argz": "x"}, // the nearest key
	} {
		_, err := Read("watches", []map[string]any{{"type": "nodes", "args": "x"}, entry})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "watches[1]") {
			t.Errorf("%v, want watches[1] and %q", err, want)
		}
	}
}
