package funcs

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// many is a Source of n services of three instances each.
type many struct {
	names map[string][]string
	of    map[string][]*api.CheckServiceNode
}

func newMany(n int) *many {
	m := &many{names: map[string][]string{}, of: map[string][]*api.CheckServiceNode{}}
	for i := range n {
		m.set(fmt.Sprint("s", i), "v1")
	}
	return m
}

// set is a new answer for a service.
func (m *many) set(name, tag string) {
	m.names[name] = nil
	m.of[name] = nil
	for i := range 3 {
		m.of[name] = append(m.of[name], &api.CheckServiceNode{
			Node:    &api.Node{Node: fmt.Sprint("n", i), Address: "10.0.0.1"},
			Service: &api.NodeService{ID: fmt.Sprint(name, "-", i), Service: name, Port: 80 + i, Tags: []string{tag}},
			Checks:  []*api.HealthCheck{{Status: api.HealthPassing}},
		})
	}
}

func (m *many) Lookup(q query.Query) (any, bool) {
	if q.Kind == query.KindServices {
		return m.names, true
	}
	return m.of[q.Name], true
}

func (m *many) Block(query.Query) {}

const showAll = `{{range services}}{{range service .Name}}{{.Name}} {{.Address}}:{{.Port}} {{.Tags | join ","}}
{{end}}{{end}}`

func complete(t testing.TB, tmpl *Template, src Source, memo *Memo) string {
	t.Helper()
	out, err := tmpl.ExecuteWith(context.Background(), src, memo)
	if err != nil || !out.Complete {
		t.Fatalf("complete %v: %v", out.Complete, err)
	}
	return string(out.Text)
}

// Of ten thousand services only the one that changed is computed again, and the text is
// the same as without a memo.
func TestAPassMakesAnewOnlyWhatChanged(t *testing.T) {
	tmpl, err := Parse("t", showAll, Options{})
	if err != nil {
		t.Fatal(err)
	}
	src, memo := newMany(10_000), &Memo{}
	before := complete(t, tmpl, src, memo)
	src.set("s77", "v2")
	after := complete(t, tmpl, src, memo)
	if want := complete(t, tmpl, src, &Memo{}); after != want || after == before || strings.Count(after, "v2") != 3 {
		t.Errorf("the text differs from that of a pass without a memo")
	}
	if len(memo.services) != 1 || memo.services["s77"] == nil {
		t.Errorf("%d services were made anew, want s77 alone", len(memo.services))
	}
}

// A memo holds what the last pass asked for, and one entry for each filter.
func TestMemoForgets(t *testing.T) {
	tmpl, err := Parse("t", `{{range services}}{{len (service .Name)}}{{len (service .Name "any")}} {{end}}`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	src, memo := newMany(2), &Memo{}
	src.of["s0"][1].Checks[0].Status = api.HealthCritical
	if got := complete(t, tmpl, src, memo); got != "23 33 " || len(memo.services) != 4 || len(memo.texts) != 2 {
		t.Errorf("%q, %d and %d entries", got, len(memo.services), len(memo.texts))
	}
	delete(src.names, "s1")
	// The text of the one that is left is known: its parts need not be.
	if got := complete(t, tmpl, src, memo); got != "23 " || len(memo.services) != 0 || len(memo.texts) != 1 {
		t.Errorf("%q, %d and %d entries", got, len(memo.services), len(memo.texts))
	}
}

// What a template does with the list it was given is not seen by the next pass.
func TestMemoIsNotModified(t *testing.T) {
	const text = `{{$all := service "s0"}}{{range append $all 1}}.{{end}}{{range reverse $all}}{{.Port}} {{end}}`
	tmpl, err := Parse("t", text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	src, memo := newMany(1), &Memo{}
	for range 2 {
		if got := complete(t, tmpl, src, memo); got != "....82 81 80 " {
			t.Errorf("%q", got)
		}
	}
}

// BenchmarkChange executes a template of n services after one of them changed.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tmpl, err := Parse("t", showAll, Options{})
			if err != nil {
				b.Fatal(err)
			}
			src, memo := newMany(n), &Memo{}
			complete(b, tmpl, src, memo)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				src.set("s7", fmt.Sprint("v", i))
				complete(b, tmpl, src, memo)
			}
		})
	}
}
