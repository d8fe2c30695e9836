package state

import (
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// Which query moves with which change: the whole of law 4 by example. The
// property test covers it at random.
func TestWhatMovesWhat(t *testing.T) {
	queries := []string{"nodes", "node n", "node-services n", "services", "service web", "health web", "checks web", "health n", "state passing", "state any", "service none", "node none", "key none"}
	ask := func(sn *Snapshot, q string) Meta {
		var m Meta
		switch q {
		case "nodes":
			_, m = sn.Nodes(nil)
		case "node n":
			_, m = sn.Node("n")
		case "node-services n":
			_, m = sn.NodeServices("n")
		case "services":
			_, m = sn.Services(nil)
		case "service web":
			_, m = sn.ServiceNodes("web", Select{})
		case "health web":
			_, m = sn.HealthService("web", Select{})
		case "checks web":
			_, m = sn.HealthChecks("web", nil)
		case "health n":
			_, m = sn.HealthNode("n")
		case "state passing":
			_, m = sn.HealthState("passing", nil)
		case "state any":
			_, m = sn.HealthState("any", nil)
		case "service none":
			_, m = sn.HealthService("none", Select{})
		case "node none":
			_, m = sn.NodeServices("none")
		case "key none":
			_, m = sn.KVGet("none")
		}
		return m
	}
	moved := func(r *Register, change func(*Register)) *Register { change(r); return r }
	for _, tc := range []struct {
		name string
		cmd  Command
		want []string
	}{
		{"the same again", register("n", service("w", "web", "a"), check("c", "w", "passing"), check("s", "", "passing")), nil},
		{"an output", register("n", nil, moved(register("", nil, check("c", "w", "passing")), func(r *Register) { r.Checks[0].Output = "x" }).Checks...),
			[]string{"health web", "checks web", "health n", "state passing", "state any"}},
		{"a status", register("n", nil, check("c", "w", "warning")), []string{"health web", "checks web", "health n", "state passing", "state any"}},
		{"a node check", register("n", nil, check("s", "", "warning")), []string{"health web", "health n", "state passing", "state any"}},
		{"a node check elsewhere", register("m", nil, check("s", "", "warning")), []string{"state any"}},
		{"a new node", register("o", nil), []string{"nodes"}},
		{"a node record", moved(register("n", nil), func(r *Register) { r.Node.Address = "10.9.9.9" }), []string{"nodes", "node n", "node-services n", "service web", "health web"}},
		{"another node's record", moved(register("m", nil), func(r *Register) { r.Node.Address = "10.9.9.9" }), []string{"nodes"}},
		{"a port", moved(register("n", service("w", "web", "a")), func(r *Register) { r.Service.Port = 81 }), []string{"node-services n", "service web", "health web"}},
		{"a second instance", register("m", service("w", "web", "a")), []string{"service web", "health web"}},
		{"a second instance with a new tag", register("m", service("w", "web", "b")), []string{"services", "service web", "health web"}},
		{"another service", register("m", service("x", "other")), []string{"services"}},
		{"a check's end", &Deregister{Node: "n", CheckID: "c"}, []string{"health web", "checks web", "health n", "state passing", "state any"}},
		{"a service's end", &Deregister{Node: "n", ServiceID: "w"}, []string{"node-services n", "services", "service web", "health web", "checks web", "health n", "state passing", "state any"}},
		{"a node's end", &Deregister{Node: "n"}, []string{"nodes", "node n", "node-services n", "services", "service web", "health web", "checks web", "health n", "state passing", "state any"}},
		{"another node's end", &Deregister{Node: "m"}, []string{"nodes", "services"}},
		{"the end of nothing", &Deregister{Node: "n", ServiceID: "none"}, nil},
		{"a key", &KV{Op: KVSet, Entry: api.KVPair{Key: "k"}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t)
			l.must(register("n", service("w", "web", "a"), check("c", "w", "passing"), check("s", "", "passing")))
			l.must(register("m", service("d", "db")))
			before := map[string]Meta{}
			for _, q := range queries {
				before[q] = ask(l.sn, q)
			}
			touched := l.must(tc.cmd)
			for _, q := range queries {
				want := false
				for _, w := range tc.want {
					want = want || w == q
				}
				after := ask(l.sn, q)
				if want != (after.Index == l.index) || !want && after.Index != before[q].Index || want != anyWakes(before[q], touched) {
					t.Errorf("%s: index %d -> %d, woken %v; should move: %v", q, before[q].Index, after.Index, anyWakes(before[q], touched), want)
				}
			}
			if tc.want == nil && tc.name != "a key" && len(touched) > 0 {
				t.Errorf("touched %v", touched)
			}
		})
	}
}

// The list of services shows names and the tags of all instances together.
func TestServicesMoveWithTheUnionOfTags(t *testing.T) {
	l := newLab(t)
	l.must(register("n", service("w", "web", "a", "b")))
	for _, tc := range []struct {
		name string
		cmd  Command
		want bool
	}{
		{"a second instance", register("m", service("w", "web", "a")), false},
		{"a tag that another has", register("m", service("w", "web", "a", "b")), false},
		{"a tag in another order", register("m", service("w", "web", "b", "a")), false},
		{"a new tag", register("m", service("w", "web", "c")), true},
		{"a tag that another keeps", register("m", service("w", "web", "c", "b")), false},
		{"the only one of its tag", register("m", service("w", "web", "b")), true},
		{"another spelling", register("m", service("w", "Web", "b")), true},
		{"the first spelling again", register("m", service("w", "web", "b")), true},
		{"one of two instances", &Deregister{Node: "m", ServiceID: "w"}, false},
		{"the last instance", &Deregister{Node: "n", ServiceID: "w"}, true},
	} {
		before, m := l.sn.Services(nil)
		touched := l.must(tc.cmd)
		after, now := l.sn.Services(nil)
		if anyWakes(m, touched) != tc.want || (now.Index == l.index) != tc.want || (asJSON(t, before) != asJSON(t, after)) != tc.want {
			t.Errorf("%s: %v at %d becomes %v at %d; should move: %v", tc.name, before, m.Index, after, now.Index, tc.want)
		}
	}
}

// What is gone keeps its index, and its marks may be dropped: none stays behind
// as if it were there.
func TestNothingGoneIsHeldAsLiving(t *testing.T) {
	l := newLab(t)
	l.must(withID(register("n", service("w", "web", "a"), check("c", "w", "odd"), check("s", "", "passing")), uuid1))
	l.must(&Deregister{Node: "n", CheckID: "c"})
	l.must(&Deregister{Node: "n", CheckID: "s"})
	l.must(&Deregister{Node: "n", ServiceID: "w"})
	l.must(&Deregister{Node: "n"})
	for m := range scan[changeIndex](l.sn.read(), tableIndexes, "id_prefix", nil) {
		if m.Key != "" && !m.Tombstone {
			t.Errorf("mark %+v of something gone is held as living", *m)
		}
	}
	if _, meta := l.sn.HealthNode("n"); meta.Index != 12 {
		t.Errorf("index of the checks of n is %d, want that of the last one's removal", meta.Index)
	}
	l.must(register("n", nil))
	for m := range scan[changeIndex](l.sn.read(), tableIndexes, "id_prefix", changeKey(topicNodeChecks, "n")) {
		if m.Tombstone {
			t.Errorf("mark %+v of something living may be dropped", *m)
		}
	}
}
