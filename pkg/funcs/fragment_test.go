package funcs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// What can be a fragment, and what cannot; x is a number of fragments.
func TestWhatIsAFragment(t *testing.T) {
	for text, want := range map[string]int{
		`{{range services}}{{.Name}}{{end}}`:                                                        1,
		`{{range services}}{{range service .Name}}{{.Port}}{{end}}{{end}}`:                          1, // the outer one
		`{{range $i, $s := services}}{{$i}}{{$s.Name | toUpper}}{{end}}`:                            1,
		`{{$p := key "p"}}{{range services}}{{$p}}{{.Name}}{{end}}`:                                 1,
		`{{if true}}{{range services}}{{.Name}}{{else}}none{{end}}{{end}}`:                          1,
		`{{with key "p"}}{{range services}}{{.Name}}{{end}}{{end}}`:                                 1,
		`{{range services}}{{$n := .Name}}{{if $n}}{{$n = "x"}}{{end}}{{$n}}{{end}}`:                1,
		`{{range services}}{{end}}{{range services}}fixed{{end}}`:                                   0,
		`{{range services}}{{.Name}}{{timestamp}}{{end}}`:                                           0, // the clock
		`{{range services}}{{scratch.Set "n" .Name}}{{end}}`:                                        0,
		`{{$n := 0}}{{range services}}{{$n = add $n 1}}{{end}}{{$n}}`:                               0, // changes what is outside
		`{{range services}}{{if eq .Name "s1"}}{{break}}{{end}}{{.Name}}{{end}}`:                    0,
		`{{define "x"}}{{.}}{{end}}{{range services}}{{template "x" .Name}}{{end}}`:                 0,
		`{{range services}}{{plugin "true"}}{{range service .Name}}{{.Port}}{{end}}{{end}}`:         1, // the inner one
		`{{$n := 1}}{{range services}}{{$n := .Name}}{{$n}}{{end}}`:                                 0, // of two with one name
		`{{range services}}{{$.Name}}{{end}}`:                                                       0,
		`{{range services}}{{.Name}}{{end}}{{range $n := services}}{{range $n}}{{.}}{{end}}{{end}}`: 2,
	} {
		tmpl, err := Parse("t", text, Options{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := len(tmpl.fragments); got != want {
			t.Errorf("%s: %d fragments, want %d", text, got, want)
		}
	}
}

// An error reads as it does without fragments.
func TestErrorsOfFragments(t *testing.T) {
	src := newMany(2)
	for _, text := range []string{
		"a\n{{range services}}{{.Name}}\n {{.Nome}}{{end}}",
		"{{range $i, $s := services}}{{parseInt $s.Name}}{{end}}",
		"{{range services}}{{range service .Name}}{{index .Tags 7}}{{end}}{{end}}",
		`{{range services}}{{service (print .Name "@")}}{{end}}`,
	} {
		whole, _, err := parseWhole("dir/f.tpl", text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		parts, err := Parse("dir/f.tpl", text, Options{})
		if err != nil || len(parts.fragments) != 1 {
			t.Fatal(err, len(parts.fragments))
		}
		_, want := whole.Execute(t.Context(), src)
		memo := &Memo{}
		for range 2 { // with a memo, too
			if _, got := parts.ExecuteWith(t.Context(), src, memo); want == nil || got == nil || got.Error() != want.Error() {
				t.Errorf("%s:\n got %v\nwant %v", text, got, want)
			}
		}
	}
}

// TestFragmentsChangeNothing: passes with a memo, over data that changes and is
// missing at times, give what passes of the whole template give, and ask for the same.
func TestFragmentsChangeNothing(t *testing.T) {
	pieces := []string{
		`{{.Name}}`, `{{.Name | toUpper}};`, `{{range service .Name}}{{.Address}}:{{.Port}} {{.Tags | join ","}}{{end}}`,
		`{{range $i, $in := service .Name "any"}}{{$i}}{{$in.Status}}{{else}}-{{end}}`, `{{key (print "k/" .Name)}}`, `{{keyOrDefault .Name "d"}}`,
		`{{if keyExists .Name}}+{{end}}`, `{{$x := .Name}}{{$x}}`, `{{$out}}`, `{{range ls "k"}}{{.Key}}={{.Value}} {{end}}`, `{{len (services)}}`,
		`{{scratch.Set "last" .Name}}`, `{{with scratch.Get "last"}}{{.}}{{end}}`, `{{executeTemplate "t2" .Name}}`, `{{.Tags}}`, "\n",
	}
	rapid.Check(t, func(rt *rapid.T) {
		var text strings.Builder
		text.WriteString(`{{define "t2"}}<{{.}}>{{end}}{{$out := keyOrDefault "out" "o"}}`)
		for range rapid.IntRange(1, 3).Draw(rt, "ranges") {
			text.WriteString(rapid.SampledFrom([]string{`{{range services}}`, `{{range $n, $s := services}}{{$n}}`}).Draw(rt, "range"))
			for _, piece := range rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 5).Draw(rt, "body") {
				text.WriteString(piece)
			}
			text.WriteString(`{{end}}|`)
		}
		whole, _, err := parseWhole("t", text.String(), Options{})
		if err != nil {
			rt.Fatal(err)
		}
		parts, err := Parse("t", text.String(), Options{})
		if err != nil {
			rt.Fatal(err)
		}
		data, memo := newChanging(), &Memo{}
		for range rapid.IntRange(2, 8).Draw(rt, "passes") {
			data.change(rt)
			want, wantErr := whole.Execute(context.Background(), data)
			asked := data.takeAsked()
			got, gotErr := parts.ExecuteWith(context.Background(), data, memo)
			if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				rt.Fatalf("%s:\n got %v\nwant %v", text.String(), gotErr, wantErr)
			}
			if got.Complete != want.Complete || wantErr == nil && string(got.Text) != string(want.Text) {
				rt.Fatalf("%s:\n got %v %q\nwant %v %q", text.String(), got.Complete, got.Text, want.Complete, want.Text)
			}
			if again := data.takeAsked(); !maps.Equal(again, asked) {
				rt.Fatalf("%s:\nasked for %v\n   before %v", text.String(), again, asked)
			}
		}
	})
}

// changing is a Source in which answers come, change, go back and go.
type changing struct {
	answers map[query.Query]any
	missing map[query.Query]bool
	asked   map[query.Query]bool
	names   []string
	tag     map[string]string
	value   map[string]string
}

func newChanging() *changing {
	return &changing{
		answers: map[query.Query]any{}, missing: map[query.Query]bool{}, asked: map[query.Query]bool{},
		tag: map[string]string{}, value: map[string]string{},
	}
}

func (c *changing) takeAsked() map[query.Query]bool {
	asked := c.asked
	c.asked = map[query.Query]bool{}
	return asked
}

// change changes something and throws away some answers: the next is made anew, even
// if it is equal. Now and then one is not there.
func (c *changing) change(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "out", "k/a", "k/b"}).Draw(rt, "name")
	switch rapid.IntRange(0, 3).Draw(rt, "what") {
	case 0:
		if at := slices.Index(c.names, name); at >= 0 {
			c.names = slices.Delete(slices.Clone(c.names), at, at+1)
		} else {
			c.names = append(slices.Clone(c.names), name)
		}
	case 1:
		c.tag[name] = rapid.SampledFrom([]string{"v1", "v2"}).Draw(rt, "tag")
	case 2:
		c.value[name] = rapid.SampledFrom([]string{"", "1", "2"}).Draw(rt, "value")
	}
	clear(c.missing)
	for q, answer := range c.answers {
		if text(answer) != text(c.make(q)) || rapid.IntRange(0, 9).Draw(rt, "anew") == 0 {
			delete(c.answers, q)
			c.missing[q] = rapid.IntRange(0, 9).Draw(rt, "missing") == 0
		}
	}
}

func text(v any) string {
	out, _ := json.Marshal(v) // of plain data
	return string(out)
}

func (c *changing) Block(query.Query) {}

func (c *changing) Lookup(q query.Query) (any, bool) {
	c.asked[q] = true
	if c.missing[q] {
		return nil, false
	}
	if _, ok := c.answers[q]; !ok {
		c.answers[q] = c.make(q)
	}
	return c.answers[q], true
}

func (c *changing) make(q query.Query) any {
	switch q.Kind {
	case query.KindServices:
		out := map[string][]string{}
		for _, name := range c.names {
			out[name] = []string{c.tag[name]}
		}
		return out
	case query.KindService:
		var out []*api.CheckServiceNode
		for i := range 2 {
			out = append(out, &api.CheckServiceNode{
				Node:    &api.Node{Node: fmt.Sprint("n", i), Address: "10.0.0.1"},
				Service: &api.NodeService{ID: q.Name, Service: q.Name, Port: 80 + i, Tags: []string{c.tag[q.Name]}},
				Checks:  []*api.HealthCheck{{Status: api.HealthPassing}},
			})
		}
		return out
	case query.KindKey:
		if c.value[q.Name] == "" {
			return nil
		}
		return &api.KVPair{Key: q.Name, Value: []byte(c.value[q.Name])}
	default:
		var out []*api.KVPair
		for _, name := range slices.Sorted(maps.Keys(c.value)) {
			if strings.HasPrefix(name, q.Name) {
				out = append(out, &api.KVPair{Key: name, Value: []byte(c.value[name])})
			}
		}
		return out
	}
}
