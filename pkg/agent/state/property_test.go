package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

// query is one question, asked of the real thing and of the model.
type query struct {
	name string
	// exact: its index may move only if its answer changed (for a command that
	// does one thing). Filters and prefixes may be moved by what they drop.
	exact bool
	ask   func(*Snapshot) (any, Meta)
	model func(*model) any
}

func ask[T any](v T, m Meta) (any, Meta) { return v, m }

func queries() []query {
	var qs []query
	add := func(name string, exact bool, ask func(*Snapshot) (any, Meta), model func(*model) any) {
		qs = append(qs, query{name, exact, ask, model})
	}
	rack := map[string]string{"rack": "1"}
	for _, k := range []string{"p", "p/x", "p/x/1", "q", "none"} {
		add("key "+k, true, func(s *Snapshot) (any, Meta) { return ask(s.KVGet(k)) }, func(m *model) any {
			if e, ok := m.kv[k]; ok {
				return e
			}
			return nil
		})
		add("list "+k, true, func(s *Snapshot) (any, Meta) { return ask(s.KVList(k)) }, func(m *model) any { return m.list(k) })
	}
	add("list", true, func(s *Snapshot) (any, Meta) { return ask(s.KVList("")) }, func(m *model) any { return m.list("") })
	add("keys p by /", false, func(s *Snapshot) (any, Meta) { return ask(s.KVKeys("p", "/")) }, func(m *model) any { return m.keys("p", "/") })
	add("nodes", true, func(s *Snapshot) (any, Meta) { return ask(s.Nodes(nil)) }, func(m *model) any {
		return sorted(m.nodes, func(api.Node) bool { return true })
	})
	add("nodes in rack 1", false, func(s *Snapshot) (any, Meta) { return ask(s.Nodes(rack)) }, func(m *model) any {
		return sorted(m.nodes, func(n api.Node) bool { return hasAll(n.Meta, rack) })
	})
	for _, n := range []string{"a", "B", "none", "11", uuid1, uuid3} {
		exact := len(n) != 2 && len(n) != 36
		add("node "+n, exact, func(s *Snapshot) (any, Meta) { return ask(s.Node(n)) }, func(m *model) any { return m.findNode(n) })
		add("services of "+n, exact, func(s *Snapshot) (any, Meta) { return ask(s.NodeServices(n)) }, func(m *model) any { return m.nodeServices(n) })
		add("checks of node "+n, true, func(s *Snapshot) (any, Meta) { return ask(s.HealthNode(n)) }, func(m *model) any {
			return m.checksWhere(nil, func(c api.HealthCheck) bool { return strings.EqualFold(c.Node, n) })
		})
	}
	add("services", true, func(s *Snapshot) (any, Meta) { return ask(s.Services(nil)) }, func(m *model) any { return m.servicesMap(nil) })
	add("services in rack 1", false, func(s *Snapshot) (any, Meta) { return ask(s.Services(rack)) }, func(m *model) any { return m.servicesMap(rack) })
	for _, n := range []string{"web", "db", "none"} {
		add("service "+n, true, func(s *Snapshot) (any, Meta) { return ask(s.ServiceNodes(n, Select{})) }, func(m *model) any { return m.serviceNodes(n) })
		for _, sel := range []Select{{}, {Passing: true}, {Tags: []string{"x"}}, {NodeMeta: rack}} {
			add(fmt.Sprintf("health %s %v", n, sel), sel.Tags == nil && sel.NodeMeta == nil && !sel.Passing,
				func(s *Snapshot) (any, Meta) { return ask(s.HealthService(n, sel)) }, func(m *model) any { return m.health(n, sel) })
		}
		named := func(c api.HealthCheck) bool { return c.ServiceID != "" && strings.EqualFold(c.ServiceName, n) }
		add("checks of "+n, true, func(s *Snapshot) (any, Meta) { return ask(s.HealthChecks(n, nil)) }, func(m *model) any { return m.checksWhere(nil, named) })
		add("checks in rack 1 of "+n, false, func(s *Snapshot) (any, Meta) { return ask(s.HealthChecks(n, rack)) }, func(m *model) any { return m.checksWhere(rack, named) })
	}
	for _, st := range []string{"any", "passing", "critical"} {
		in := func(c api.HealthCheck) bool { return st == "any" || c.Status == st }
		add("state "+st, true, func(s *Snapshot) (any, Meta) { return ask(s.HealthState(st, nil)) }, func(m *model) any { return m.checksWhere(nil, in) })
		add("state in rack 1 "+st, false, func(s *Snapshot) (any, Meta) { return ask(s.HealthState(st, rack)) }, func(m *model) any { return m.checksWhere(rack, in) })
	}
	return slices.Concat(qs, sessionQueries(), eventQueries())
}

// sessionQueries are those about sessions and locks.
func sessionQueries() []query {
	var qs []query
	add := func(name string, exact bool, ask func(*Snapshot) (any, Meta), model func(*model) any) {
		qs = append(qs, query{name, exact, ask, model})
	}
	add("sessions", true, func(s *Snapshot) (any, Meta) { return ask(s.Sessions()) }, func(m *model) any {
		return m.sessionsWhere(func(api.Session) bool { return true })
	})
	for _, n := range []string{"a", "B", "none"} {
		add("sessions of "+n, true, func(s *Snapshot) (any, Meta) { return ask(s.NodeSessions(n)) }, func(m *model) any {
			return m.sessionsWhere(func(s api.Session) bool { return strings.EqualFold(s.Node, n) })
		})
	}
	for _, id := range []string{"s1", "s2", "none"} {
		add("session "+id, true, func(s *Snapshot) (any, Meta) { return ask(s.Session(id)) }, func(m *model) any {
			if s, ok := m.sessions[id]; ok {
				return s
			}
			return nil
		})
	}
	for _, key := range []string{"p", "p/x", "q"} {
		add("token of "+key, false, func(s *Snapshot) (any, Meta) {
			_, meta := s.KVGet(key)
			return s.LockToken(key), meta
		}, func(m *model) any { return m.tokens[key] })
	}
	return qs
}

// Generators over few names, so that they meet.

func oneOf(t *rapid.T, what string, from ...string) string {
	return rapid.SampledFrom(from).Draw(t, what)
}

func genNode(t *rapid.T) api.Node {
	n := api.Node{
		Node:    oneOf(t, "node", "a", "A", "b", "c"),
		ID:      oneOf(t, "id", "", "", uuid1, uuid2, uuid3),
		Address: oneOf(t, "address", "10.0.0.1", "10.0.0.2"),
	}
	if rapid.Bool().Draw(t, "rack") {
		n.Meta = map[string]string{"rack": oneOf(t, "rack", "1", "2")}
	}
	return n
}

func genService(t *rapid.T) api.NodeService {
	return api.NodeService{
		ID:      oneOf(t, "service id", "1", "2"),
		Service: oneOf(t, "service", "web", "Web", "db"),
		Tags:    rapid.SampledFrom([][]string{nil, {"x"}, {"y"}, {"x", "y"}}).Draw(t, "tags"),
		Port:    rapid.IntRange(0, 1).Draw(t, "port"),
	}
}

func genCheck(t *rapid.T) api.HealthCheck {
	return api.HealthCheck{
		CheckID:   oneOf(t, "check id", "serfHealth", "c"),
		ServiceID: oneOf(t, "of service", "", "", "1", "2"),
		Status:    oneOf(t, "status", "passing", "critical", "odd"),
		Output:    oneOf(t, "output", "", "x"),
	}
}

func genRegister(t *rapid.T) *Register {
	n := genNode(t)
	r := &Register{Node: &n, SkipNodeUpdate: rapid.Bool().Draw(t, "skip node")}
	if rapid.Bool().Draw(t, "with service") {
		s := genService(t)
		r.Service = &s
	}
	for range rapid.IntRange(0, 2).Draw(t, "checks") {
		c := genCheck(t)
		r.Checks = append(r.Checks, &c)
	}
	return r
}

func genKey(t *rapid.T) string { return oneOf(t, "key", "p", "p/x", "p/x/1", "p/y", "q") }

func genIndex(t *rapid.T, m *model, key string) uint64 {
	if rapid.Bool().Draw(t, "right index") {
		return m.kv[key].ModifyIndex
	}
	return rapid.Uint64Range(0, 3).Draw(t, "index")
}

func genOp(t *rapid.T, m *model) *api.TxnOp {
	verb := func() string { return oneOf(t, "verb", "set", "set", "delete") }
	switch rapid.IntRange(0, 4).Draw(t, "op") {
	case 0:
		n := genNode(t)
		return &api.TxnOp{Node: &api.TxnNodeOp{Verb: verb(), Node: n}}
	case 1:
		return &api.TxnOp{Service: &api.TxnServiceOp{Verb: verb(), Node: genNode(t).Node, Service: genService(t)}}
	case 2:
		c := genCheck(t)
		c.Node = genNode(t).Node
		return &api.TxnOp{Check: &api.TxnCheckOp{Verb: "set", Check: c}}
	}
	key := genKey(t)
	return &api.TxnOp{KV: &api.TxnKVOp{
		Verb: oneOf(t, "verb", "set", "cas", "delete", "get", "lock", "unlock", "check-session"), Key: key, Index: genIndex(t, m, key), Value: []byte(oneOf(t, "value", "", "1", "2")),
		Session: genSessionID(t),
	}}
}

func genSessionID(t *rapid.T) string { return oneOf(t, "session", "s1", "s2", "s3") }

func genSession(t *rapid.T) *SessionCreate {
	return &SessionCreate{api.Session{
		ID: genSessionID(t), Node: genNode(t).Node,
		LockDelay:  rapid.SampledFrom([]time.Duration{0, 5 * time.Second, time.Hour}).Draw(t, "lock delay"),
		Behavior:   oneOf(t, "behavior", api.SessionRelease, api.SessionDelete),
		TTL:        oneOf(t, "ttl", "", "10s"),
		NodeChecks: rapid.SampledFrom([][]string{nil, {"serfHealth"}, {"c"}, {"c", "serfHealth"}}).Draw(t, "checks"),
	}}
}

// genTime goes on most of the time, but a new leader's clock may be behind.
func genTime(t *rapid.T, m *model) time.Time {
	if m.now.IsZero() {
		return labTime
	}
	return m.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 4, 30, -10, -7200}).Draw(t, "seconds")) * time.Second)
}

func genCommand(t *rapid.T, m *model) Command {
	switch rapid.IntRange(0, 17).Draw(t, "command") {
	case 10, 11:
		return genSession(t)
	case 12:
		return &SessionDestroy{genSessionID(t)}
	case 13:
		return &Reap{}
	case 14, 15:
		return genEvent(t)
	case 0, 1, 2, 3:
		return genRegister(t)
	case 4:
		return &Deregister{Node: genNode(t).Node, ServiceID: oneOf(t, "service id", "1", "2", "3")}
	case 5:
		return &Deregister{Node: genNode(t).Node, CheckID: oneOf(t, "check id", "serfHealth", "c", "d")}
	case 6:
		return &Deregister{Node: genNode(t).Node, Left: rapid.Bool().Draw(t, "left")}
	case 7:
		var c Txn
		for range rapid.IntRange(1, 4).Draw(t, "ops") {
			c.Ops = append(c.Ops, genOp(t, m))
		}
		return &c
	}
	key := genKey(t)
	c := &KV{
		Op:    KVOp(oneOf(t, "op", "set", "set", "cas", "delete", "delete-cas", "delete-tree", "lock", "lock", "lock", "unlock")),
		Entry: api.KVPair{Key: key, Value: []byte(oneOf(t, "value", "", "1", "2")), Flags: rapid.Uint64Range(0, 1).Draw(t, "flags")},
		Index: genIndex(t, m, key),
		TTL:   rapid.SampledFrom([]time.Duration{0, 0, 3 * time.Second}).Draw(t, "ttl"),
	}
	if c.Op == KVLock || c.Op == KVUnlock {
		c.Entry.Session = genSessionID(t)
	}
	if rapid.IntRange(0, 3).Draw(t, "fenced") == 0 {
		c.Fence = &Fence{Key: genKey(t), Token: rapid.Uint64Range(0, 3).Draw(t, "token")}
		if rapid.Bool().Draw(t, "right token") {
			c.Fence.Token = m.tokens[c.Fence.Key]
		}
	}
	return c
}

// doesOneThing tells whether a command can change each thing only once, so that
// what it touched must differ afterwards.
func doesOneThing(cmd Command) bool {
	switch c := cmd.(type) {
	case *Register:
		// An id may rename a node, which removes what the rest then adds again.
		parts := len(c.Checks)
		if c.Service != nil {
			parts++
		}
		return parts == 0 || parts == 1 && c.Node.ID == ""
	case *Txn:
		return len(c.Ops) == 1
	}
	return true
}

// plain makes results of store and model comparable.
func plain(result any) any {
	switch r := result.(type) {
	case error:
		return r.Error()
	case *api.TxnResponse:
		if r.Errors == nil {
			return len(r.Results)
		}
		var failed []string
		for _, e := range r.Errors {
			failed = append(failed, fmt.Sprintf("%d: %s", e.OpIndex, e.What))
		}
		return failed
	}
	return result
}

type answer struct {
	text string
	meta Meta
}

// Random commands: every answer is the model's; indexes never fall, move when
// the answer changes, and then a watch of the answer before was touched; they
// stay where nothing that the answer was read from was touched.
func TestStoreIsTheModelAndIndexesAreExact(t *testing.T) {
	qs := queries()
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), newModel()
		floors := rapid.Bool().Draw(t, "few tombstones")
		if floors {
			s.root.maxTombstones = 2
		}
		before := map[string]answer{}
		for _, q := range qs {
			v, meta := q.ask(s.Snapshot())
			before[q.name] = answer{asText(v), meta}
		}
		end := uint64(10 + rapid.IntRange(1, 40).Draw(t, "steps"))
		for index := uint64(10); index < end; index++ {
			data, oneThing, apply := genEntry(t, m)
			results, touched := s.ApplyBatch([]Entry{{Index: index, Data: data}})
			each, isGroup := results[0].([]any)
			if !isGroup {
				each = results
			}
			want := apply(index)
			if len(each) != len(want) {
				t.Fatalf("%d: %d results for %d commands", index, len(each), len(want))
			}
			for i := range want {
				if got, want := asText(plain(each[i])), asText(want[i]); got != want {
					t.Fatalf("%d: result %d is %s, want %s", index, i, got, want)
				}
			}
			sn := s.Snapshot()
			for _, q := range qs {
				v, meta := q.ask(sn)
				now := answer{asText(v), meta}
				if want := asText(q.model(m)); now.text != want {
					t.Fatalf("%d: %s is\n%s, want\n%s", index, q.name, now.text, want)
				}
				checkAnswer(t, q, before[q.name], now, index, touched, floors, oneThing)
				before[q.name] = now
			}
		}
		if got, want := s.Snapshot().Stats(), m.stats(); got != want {
			t.Fatalf("stats are %+v, want %+v", got, want)
		}
	})
}

func checkAnswer(t *rapid.T, q query, before, now answer, index uint64, touched []Touch, floors, oneThing bool) {
	woken := anyWakes(before.meta, touched)
	changed, moved := now.text != before.text, now.meta.Index != before.meta.Index
	switch {
	case now.meta.Index < max(1, before.meta.Index):
		t.Fatalf("%d: index of %s falls from %d to %d", index, q.name, before.meta.Index, now.meta.Index)
	case changed && now.meta.Index != index:
		t.Fatalf("%d: %s changes, but its index is %d", index, q.name, now.meta.Index)
	case changed && !woken:
		t.Fatalf("%d: %s changes and wakes nobody who watches %v; touched %v", index, q.name, before.meta.Watch, touched)
	case woken && now.meta.Index != index:
		t.Fatalf("%d: %s wakes, but its index is %d", index, q.name, now.meta.Index)
	case moved && !woken && !floors:
		t.Fatalf("%d: index of %s moves from %d to %d, but nobody is woken", index, q.name, before.meta.Index, now.meta.Index)
	case woken && !changed && q.exact && oneThing:
		t.Fatalf("%d: %s is woken without a change: watches %v, touched %v", index, q.name, before.meta.Watch, touched)
	}
}

func (m *model) stats() Stats {
	names := map[string]bool{}
	for _, s := range m.services {
		names[strings.ToLower(s.Service)] = true
	}
	events, size := m.eventStats()
	return Stats{Nodes: len(m.nodes), Services: len(names), Instances: len(m.services), Checks: len(m.checks), Keys: len(m.kv), Sessions: len(m.sessions), Events: events, EventBytes: size}
}

// The same log gives the same bytes, however it is cut into batches, and
// whether or not the state went through a snapshot on the way, and touches the
// same things.
func TestReplayGivesEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		var log []Entry
		for i := range rapid.IntRange(1, 30).Draw(t, "entries") {
			data, _, apply := genEntry(t, m)
			log = append(log, Entry{Index: uint64(10 + i), Data: data})
			apply(uint64(10 + i))
		}
		dead := rapid.IntRange(1, 5).Draw(t, "tombstones")
		one := replay(t, dead, log, func() int { return 1 }, -1)
		cut := replay(t, dead, log, func() int { return rapid.IntRange(1, 7).Draw(t, "batch") }, -1)
		restored := replay(t, dead, log, func() int { return 3 }, rapid.IntRange(0, len(log)).Draw(t, "restart"))
		if !bytes.Equal(one.bytes, cut.bytes) || !maps.Equal(one.touched, cut.touched) {
			t.Fatalf("batches leave a trace: %v, %v", one.touched, cut.touched)
		}
		if !bytes.Equal(one.bytes, restored.bytes) || !maps.Equal(one.touched, restored.touched) {
			t.Fatal("a snapshot on the way leaves a trace")
		}
	})
}

type replayed struct {
	bytes   []byte
	touched map[Touch]bool
}

func replay(t *rapid.T, dead int, log []Entry, batch func() int, restart int) replayed {
	s := New()
	s.root.maxTombstones = dead
	out := replayed{touched: map[Touch]bool{}}
	snapshot := func() []byte {
		var buf bytes.Buffer
		if err := s.Snapshot().Write(&buf); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	for len(log) > 0 {
		n := min(batch(), len(log))
		_, touched := s.ApplyBatch(slices.Clone(log[:n]))
		for _, touch := range touched {
			out.touched[touch] = true
		}
		log, restart = log[n:], restart-n
		if restart > -n && restart <= 0 {
			next := New()
			next.root.maxTombstones = dead
			if err := next.Restore(bytes.NewReader(snapshot())); err != nil {
				t.Fatal(err)
			}
			s = next
		}
	}
	out.bytes = snapshot()
	return out
}

func asText(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(out)
}
