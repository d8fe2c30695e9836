package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// labTime is when commands are proposed where that does not matter.
var labTime = time.Unix(1_800_000_000, 0)

// lab drives a store as raft would, one command at a time.
type lab struct {
	t     testing.TB
	s     *Store
	index uint64
	sn    *Snapshot
}

func newLab(t testing.TB) *lab {
	s := New()
	return &lab{t: t, s: s, index: 9, sn: s.Snapshot()}
}

// do applies one command and returns its result and what it touched.
func (l *lab) do(cmd Command) (any, []Touch) {
	l.t.Helper()
	l.index++
	results, touched := l.s.ApplyBatch([]Entry{l.entry(cmd, l.index)})
	l.sn = l.s.Snapshot()
	return results[0], touched
}

func (l *lab) entry(cmd Command, index uint64) Entry {
	l.t.Helper()
	data, err := Encode(cmd, labTime, Level)
	if err != nil {
		l.t.Fatal(err)
	}
	return Entry{Index: index, Data: data}
}

// must applies a command that may not fail.
func (l *lab) must(cmd Command) []Touch {
	l.t.Helper()
	result, touched := l.do(cmd)
	switch r := result.(type) {
	case error:
		l.t.Fatalf("%T: %v", cmd, r)
	case *api.TxnResponse:
		if r.Errors != nil {
			l.t.Fatalf("txn: %s", r.Errors[0].What)
		}
	}
	return touched
}

func (l *lab) put(key, value string) []Touch {
	l.t.Helper()
	return l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: key, Value: []byte(value)}})
}

func (l *lab) bytes() []byte {
	l.t.Helper()
	return snapshotBytes(l.t, l.s)
}

func snapshotBytes(t testing.TB, s *Store) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Snapshot().Write(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func node(name string) *api.Node {
	return &api.Node{Node: name, Address: "10.0.0.1", Datacenter: "dc1"}
}

func service(id, name string, tags ...string) *api.NodeService {
	return &api.NodeService{ID: id, Service: name, Tags: tags, Port: 80}
}

func check(id, serviceID, status string) *api.HealthCheck {
	return &api.HealthCheck{CheckID: id, Name: id, ServiceID: serviceID, Status: status}
}

func register(nodeName string, svc *api.NodeService, checks ...*api.HealthCheck) *Register {
	return &Register{Node: node(nodeName), Service: svc, Checks: checks}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// wakes tells whether touched concerns somebody who watches w.
func wakes(w Watch, touched []Touch) bool {
	return slices.ContainsFunc(touched, func(t Touch) bool {
		if t.Topic != w.Topic {
			return false
		}
		return t.Key == w.Key || w.Prefix && len(t.Key) >= len(w.Key) && t.Key[:len(w.Key)] == w.Key
	})
}

func anyWakes(m Meta, touched []Touch) bool {
	return slices.ContainsFunc(m.Watch, func(w Watch) bool { return wakes(w, touched) })
}

// A command that the state refuses is an answer, and the batch goes on.
func TestARefusedCommandHarmsNoOther(t *testing.T) {
	l := newLab(t)
	results, touched := l.s.ApplyBatch([]Entry{
		l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: "a"}}, 1),
		l.entry(&Register{}, 2),
		l.entry(&Txn{Ops: ops(t, `[{"KV":{"Verb":"whatever","Key":"k"}}]`)}, 3),
		l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: "b"}}, 4),
	})
	if err, ok := results[1].(error); !ok || err.Error() != "Must provide node" {
		t.Errorf("a registration of nothing: %v", results[1])
	}
	if resp, ok := results[2].(*api.TxnResponse); !ok || len(resp.Errors) != 1 {
		t.Errorf("a transaction with an unknown verb: %v", results[2])
	}
	if results[0] != true || results[3] != true || len(touched) != 2 || l.s.Snapshot().Index() != 4 {
		t.Errorf("results %v, touched %v, index %d", results, touched, l.s.Snapshot().Index())
	}
}

// An entry that this program cannot read ends it all: what comes after would be
// applied to another state than elsewhere.
func TestAnUnreadableEntryIsTheLast(t *testing.T) {
	l := newLab(t)
	good := func(key string) []byte { return l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: key}}, 1).Data }
	fields, err := pack([]byte{typeDeregister, 1}, map[string]any{"Node": "n", "Softly": true})
	if err != nil {
		t.Fatal(err)
	}
	verb, err := pack([]byte{typeKV, 1}, &kvWire{Op: "set-softly", Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	order, err := pack([]byte{typeJobCreate, 1}, &JobCreate{api.ExecRequest{Order: []byte(`{"ID":"` + uuid1 + `","Softly":true}`)}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data  []byte
		newer bool
	}{
		"nothing":                     {nil, false},
		"an unknown type":             {[]byte{99, 1}, true},
		"an unknown version":          {[]byte{typeKV, commandVersion + 1}, true},
		"no msgpack":                  {[]byte{typeKV, 1, 0xc1}, false},
		"something behind it":         {append(good("x"), 0), false},
		"an unknown field":            {fields, false},
		"an unknown verb":             {verb, true},
		"a job's order with a field":  {order, true},
		"a group of unknown version":  {[]byte{typeGroup, groupVersion + 1}, true},
		"one of a group":              {Group([][]byte{good("g"), {99, 1}}), true},
		"a group that ends too early": {Group([][]byte{good("g")})[:5], false},
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			results, touched := s.ApplyBatch([]Entry{{1, good("a")}, {2, tc.data}, {3, good("b")}})
			var why *Unreadable
			for _, result := range results[1:] {
				if err, ok := result.(error); !ok || !errors.As(err, &why) || why.Index != 2 || errors.Is(err, ErrNewer) != tc.newer {
					t.Fatalf("result %v", result)
				}
			}
			if text := why.Error(); !strings.Contains(text, "entry 2 ") || !strings.Contains(text, "upgrade this server") {
				t.Errorf("it says %q", text)
			}
			sn := s.Snapshot()
			if results[0] != true || len(touched) != 1 || sn.Index() != 1 || sn.Stats().Keys != 1 {
				t.Errorf("results %v, touched %v, index %d, %+v", results, touched, sn.Index(), sn.Stats())
			}
			if again, _ := s.ApplyBatch([]Entry{{4, good("c")}}); again[0] != why || s.Snapshot().Index() != 1 {
				t.Errorf("the next batch: %v, index %d", again[0], s.Snapshot().Index())
			}
		})
	}
}

// The level in use is that of the newest kind of entry, or of the snapshot before.
func TestLevelInUse(t *testing.T) {
	s := New()
	apply := func(level int, cmd Command) {
		t.Helper()
		data, err := Encode(cmd, labTime, level)
		if err != nil {
			t.Fatal(err)
		}
		s.ApplyBatch([]Entry{{s.Snapshot().Index() + 1, data}})
	}
	want := func(what string, s *Store, level int) {
		t.Helper()
		if got := s.Snapshot().Level(); got != level {
			t.Errorf("%s: level %d, want %d", what, got, level)
		}
	}
	want("nothing", s, 1)
	apply(1, set("a", "1"))
	want("a command without time", s, 1)
	apply(Level, set("a", "2"))
	want("a command", s, levelSessions)
	data := grouped(t, set("a", "3"), set("b", "3"))
	s.ApplyBatch([]Entry{{s.Snapshot().Index() + 1, data}})
	want("a group", s, LevelGroups)
	restored := New()
	if err := restored.Restore(bytes.NewReader(snapshotBytes(t, s))); err != nil {
		t.Fatal(err)
	}
	want("a snapshot without a cluster id", restored, levelSessions)
	apply(Level, &ClusterID{ID: uuid1})
	want("a cluster id", s, LevelClusterID)
	if err := restored.Restore(bytes.NewReader(snapshotBytes(t, s))); err != nil {
		t.Fatal(err)
	}
	want("a snapshot with a cluster id", restored, LevelClusterID)
	apply(1, set("a", "4"))
	want("an old command after it", s, LevelClusterID)
}

func TestASnapshotNeverChanges(t *testing.T) {
	l := newLab(t)
	l.put("a", "1")
	old := l.sn
	l.put("a", "2")
	l.put("b", "1")
	if e, m := old.KVGet("a"); string(e.Value) != "1" || m.Index != 10 || old.Index() != 10 {
		t.Errorf("old snapshot has %s at %d", e.Value, m.Index)
	}
	if keys, _ := old.KVKeys("", ""); len(keys) != 1 || old.Stats().Keys != 1 {
		t.Errorf("old snapshot has keys %v, %+v", keys, old.Stats())
	}
}

// Run with -race: readers of a snapshot need no lock while entries are applied.
func TestSnapshotsMayBeReadWhileEntriesAreApplied(t *testing.T) {
	l := newLab(t)
	l.must(register("n", service("w", "web"), check("c", "w", "passing")))
	sn := l.sn
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for range 200 {
				rows, meta := sn.HealthService("web", Select{})
				if meta.Index != 10 || len(rows) != 1 || rows[0].Checks[0].Status != "passing" {
					t.Errorf("an old snapshot shows %s at %d", asJSON(t, rows), meta.Index)
				}
				sn.KVList("")
			}
		})
	}
	for range 100 {
		l.must(register("n", service("w", "web"), check("c", "w", "critical")))
		l.must(register("n", service("w", "web", "x"), check("c", "w", "warning")))
		l.put("a", "1")
		l.must(&KV{Op: KVDelete, Entry: api.KVPair{Key: "a"}})
	}
	readers.Wait()
}

func TestDecodedCommandsDoNotShareTheirBytes(t *testing.T) {
	l := newLab(t)
	e := l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: "key", Value: []byte("value")}}, 10)
	l.s.ApplyBatch([]Entry{e})
	for i := range e.Data {
		e.Data[i] = '!'
	}
	if got, _ := l.s.Snapshot().KVGet("key"); got == nil || string(got.Value) != "value" {
		t.Errorf("entry is %+v after its log entry was overwritten", got)
	}
}

func bytesReader(b []byte) *bytes.Reader { return bytes.NewReader(b) }
