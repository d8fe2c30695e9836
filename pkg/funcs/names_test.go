package funcs

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// names are services that a catalog takes. Each must show where all services are shown,
// and none may keep the others from it.
var names = []string{
	"web", "parent/test", "web 1", "größe", "go.micro.api", "tag.with.dots", "UPPER", "a%20b", "we?b", "we#b", `quo"te`,
	"user@host", "user@dc1", "x@", "@y", "a@b@c", "q|r", "s|any", "t~u", "~", "..", ".", ".x", "x.", "a//b", "../../agent/self", "{{.}}", "\u2028",
}

// namedWorld has one instance of each; its id is the name.
func namedWorld() *fixture {
	f := &fixture{Datacenters: []string{"dc1"}}
	for _, name := range names {
		f.Instances = append(f.Instances, &api.CheckServiceNode{
			Node:    &api.Node{Node: "n1"},
			Service: &api.NodeService{ID: name, Service: name},
			Checks:  []*api.HealthCheck{{Status: api.HealthPassing}},
		})
	}
	return f
}

func renderIn(t *testing.T, world *fixture, text string) (string, *source) {
	t.Helper()
	tmpl, err := Parse("t", text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, src, _, err := settle(t, tmpl, world)
	if err != nil || !out.Complete {
		t.Fatalf("%s: complete %v, %v", text, out.Complete, err)
	}
	return string(out.Text), src
}

func TestEveryServiceIsShown(t *testing.T) {
	// What no path leads to cannot be asked for. A name with the marks of the grammar that
	// the grammar can read means what it reads: t~u is t, near u.
	without := []string{"..", ".", "a//b", "../../agent/self", "t~u", "user@dc1"}
	for text, blank := range map[string][]string{
		`{{range services}}{{range service .Name}}[{{.ID}}]{{end}}{{end}}`:                       append([]string{"s|any"}, without...),
		`{{range services}}{{range service .Name "any"}}[{{.ID}}]{{end}}{{end}}`:                 without,
		`{{range services}}{{range service (printf "%s|any" .Name)}}[{{.ID}}]{{end}}{{end}}`:     without,
		`{{range services}}{{$n := .Name}}{{range service $n "passing"}}[{{.ID}}]{{end}}{{end}}`: without,
	} {
		got, _ := renderIn(t, namedWorld(), text)
		for _, name := range names {
			if want := !slices.Contains(blank, name); strings.Contains(got, "["+name+"]") != want {
				t.Errorf("%s: shows %q: %v, want %v", text, name, !want, want)
			}
		}
	}
}

// A dotted argument is a tag and a name as long as there are such instances.
func TestDottedServices(t *testing.T) {
	world := namedWorld()
	show := func(arg string) (string, map[query.Query]bool) {
		got, src := renderIn(t, world, `{{range service "`+arg+`"}}{{.ID}} {{else}}none{{end}}`)
		return got, src.asked
	}
	if got, _ := show("go.micro.api"); got != "go.micro.api " {
		t.Errorf("the dotted service alone: %q", got)
	}
	if got, _ := show("go.micro.api@dc1|any"); got != "go.micro.api " {
		t.Errorf("with datacenter and filter: %q", got)
	}
	if got, asked := show("go.micro.web"); got != "none" || len(asked) != 2 {
		t.Errorf("neither: %q, asked %v", got, slices.Collect(maps.Keys(asked)))
	}
	world.Instances = append(world.Instances, &api.CheckServiceNode{
		Node: &api.Node{Node: "n1"}, Service: &api.NodeService{ID: "tagged", Service: "api", Tags: []string{"go.micro"}},
	})
	if got, asked := show("go.micro.api"); got != "tagged " || len(asked) != 1 {
		t.Errorf("a tag and a name: %q, asked %v", got, slices.Collect(maps.Keys(asked)))
	}
}

// A name with an @ that is registered cannot stand in for the service of a datacenter
// that there is, and costs no look-up unless services has listed it.
func TestAtSignsInServices(t *testing.T) {
	world := namedWorld()
	const ask = `{{range service "user@dc1"}}{{.ID}}{{else}}none{{end}}`
	if got, _ := renderIn(t, world, `{{len services}} `+ask); got != "28 none" {
		t.Errorf("of dc1: %q", got)
	}
	world.Datacenters = nil
	if got, src := renderIn(t, world, `{{len services}} `+ask); got != "28 user@dc1" || !src.asked[query.Query{Kind: query.KindDatacenters}] {
		t.Errorf("without such a datacenter: %q", got)
	}
	if got, src := renderIn(t, world, ask); got != "none" || len(src.asked) != 1 {
		t.Errorf("not listed: %q, %v", got, src.asked)
	}
}

// A name whose path leads elsewhere does not exist: it is not looked up, and no template fails.
func TestNamesThatNoPathLeadsTo(t *testing.T) {
	got, src := renderIn(t, namedWorld(), `{{keyOrDefault "../agent/self" "d"}} {{keyExists "../../x"}} {{len (ls "..")}}{{len (tree "../catalog/")}} `+
		`{{len (service "../x|any")}} {{with node ".."}}{{.Node}}{{end}}`)
	if got != "d false 00 0 <nil>" || len(src.asked) != 0 {
		t.Errorf("%q, asked for %v", got, src.asked)
	}
	tmpl, err := Parse("t", `{{key "../x"}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, src, _, err := settle(t, tmpl, namedWorld())
	if err != nil || out.Complete || len(src.blocked) != 1 {
		t.Errorf("key of no path: complete %v, blocked by %v, %v", out.Complete, src.blocked, err)
	}
}
