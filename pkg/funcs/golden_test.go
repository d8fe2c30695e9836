package funcs

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

func goldenTemplates(t testing.TB) map[string]*Template {
	t.Helper()
	paths, err := filepath.Glob("testdata/golden/*.ctmpl")
	if err != nil || len(paths) < 4 {
		t.Fatalf("templates: %v %v", paths, err)
	}
	all := map[string]*Template{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if all[path], err = Parse(path, string(text), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestGolden renders templates as they are written for HAProxy, nginx and
// Prometheus.
func TestGolden(t *testing.T) {
	for path, tmpl := range goldenTemplates(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(path, ".ctmpl") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			out, src, passes, err := settle(t, tmpl, loadFixture(t, "testdata/golden/shop.json"))
			if err != nil || !out.Complete {
				t.Fatalf("after %d passes: %v, blocked by %v", passes, err, src.blocked)
			}
			if string(out.Text) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", out.Text, want)
			}
		})
	}
}

// randomWorld makes a world, and the same one with everything in another order.
func randomWorld(t *rapid.T) (a, b *fixture) {
	a = &fixture{Self: "n0", KV: map[string]string{
		"haproxy/stats/user": "x", "nginx/workers": "2", "prometheus/labels/team": "t", "prometheus/rules": "{}",
		"nginx/sites/shop": "{}", "haproxy/timeouts/client": "1s",
	}}
	name := rapid.StringMatching("[a-z]{1,3}")
	for range rapid.IntRange(0, 6).Draw(t, "keys") {
		a.KV["weights/web/"+name.Draw(t, "key")] = name.Draw(t, "value")
	}
	a.Datacenters = rapid.SliceOfDistinct(name, rapid.ID).Draw(t, "dcs")
	statuses := rapid.SampledFrom([]string{"passing", "warning", "critical"})
	for n := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		node := &api.Node{Node: fmt.Sprintf("n%d", n), Address: fmt.Sprintf("10.0.0.%d", n), TaggedAddresses: map[string]string{"wan": "w"}}
		a.Nodes = append(a.Nodes, node)
		for s := range rapid.IntRange(0, 5).Draw(t, "services") {
			a.Instances = append(a.Instances, &api.CheckServiceNode{
				Node: node,
				Service: &api.NodeService{
					ID: fmt.Sprintf("id%d", s), Port: rapid.IntRange(1, 3).Draw(t, "port"),
					Service: rapid.SampledFrom([]string{"web", "api", "redis"}).Draw(t, "service"),
					Tags:    rapid.SliceOfDistinct(rapid.SampledFrom([]string{"http", "v1", "v2", "primary", "metrics:1"}), rapid.ID).Draw(t, "tags"),
				},
				Checks: []*api.HealthCheck{{CheckID: "c", Status: statuses.Draw(t, "status")}},
			})
		}
	}
	// {{index (service "primary.redis") 0}} needs one.
	a.Instances = append(a.Instances, &api.CheckServiceNode{
		Node: a.Nodes[0], Service: &api.NodeService{ID: "last", Service: "redis", Tags: []string{"primary"}},
	})
	copied := &fixture{}
	data, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(data, copied)
	}
	if err != nil {
		t.Fatal(err)
	}
	shuffle(copied.Nodes)
	shuffle(copied.Instances)
	shuffle(copied.Datacenters)
	for _, in := range copied.Instances {
		shuffle(in.Service.Tags)
	}
	return a, copied
}

func shuffle[T any](s []T) { rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] }) }

// TestRenderingIsDeterministic: the same data give the same text, in whatever
// order they come, and are left as they were.
func TestRenderingIsDeterministic(t *testing.T) {
	templates := goldenTemplates(t)
	paths := sortedKeys(map[string]*Template(templates))
	rapid.Check(t, func(rt *rapid.T) {
		a, b := randomWorld(rt)
		before, _ := json.Marshal(a)
		for _, path := range paths {
			one, _, _, err := settle(t, templates[path], a)
			two, _, _, err2 := settle(t, templates[path], b)
			again, _, _, err3 := settle(t, templates[path], a)
			if err != nil || err2 != nil || err3 != nil {
				rt.Fatalf("%s: %v %v %v", path, err, err2, err3)
			}
			if !one.Complete || !slices.Equal(one.Text, two.Text) || !slices.Equal(one.Text, again.Text) {
				rt.Fatalf("%s: complete %v\n%s\n---\n%s\n---\n%s", path, one.Complete, one.Text, two.Text, again.Text)
			}
		}
		if after, _ := json.Marshal(a); string(after) != string(before) {
			rt.Fatalf("the data was modified:\n%s\n%s", before, after)
		}
	})
}
