package state

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

// values are the keys below a prefix with their values and ModifyIndexes.
func values(sn *Snapshot, prefix string) map[string]string {
	out := map[string]string{}
	entries, _ := sn.KVList(prefix)
	for _, e := range entries {
		out[e.Key] = fmt.Sprint(e.Value, e.Flags, e.ModifyIndex)
	}
	return out
}

// Whoever has the keys as they were at any index has them as they are now after
// the changes since, and nobody is told of other keys.
func TestChangesLeadToTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), newModel()
		s.root.changes.limit = rapid.SampledFrom([]int{2, 8, MaxChanges}).Draw(t, "remembered")
		prefix := oneOf(t, "prefix", "", "p", "p/x")
		seen := map[uint64]map[string]string{0: {}}
		for index := uint64(10); index < 40; index++ {
			cmd, now := genCommand(t, m), genTime(t, m)
			data, err := Encode(cmd, now, Level)
			if err != nil {
				t.Fatal(err)
			}
			s.ApplyBatch([]Entry{{Index: index, Data: data}})
			m.apply(index, now, cmd)
			seen[index] = values(s.Snapshot(), prefix)
		}
		if rapid.Bool().Draw(t, "restored") {
			var buf bytes.Buffer
			if err := s.Snapshot().Write(&buf); err != nil {
				t.Fatal(err)
			}
			if err := s.Restore(&buf); err != nil {
				t.Fatal(err)
			}
		}
		sn := s.Snapshot()
		want := values(sn, prefix)
		for since, have := range seen {
			changes, meta := sn.KVChanges(prefix, since)
			if changes.Index != sn.Index() {
				t.Fatalf("since %d: index is %d", since, changes.Index)
			}
			if got := follow(t, have, changes); !maps.Equal(got, want) {
				t.Fatalf("since %d: the changes lead to %v, want %v\n%s", since, got, want, asText(changes))
			}
			if len(changes.Changes) > 0 && !changes.Resync && (meta.Index <= since || meta.Index > sn.Index()) {
				t.Fatalf("since %d: there are changes, but the index is %d", since, meta.Index)
			}
		}
	})
}

// A reader whose index was never reached here, as after a restore, begins anew too.
func TestChangesSinceAnIndexToCome(t *testing.T) {
	s := New()
	data, err := Encode(&KV{Op: KVSet, Entry: api.KVPair{Key: "p/a", Value: []byte("1")}}, labTime, Level)
	if err != nil {
		t.Fatal(err)
	}
	s.ApplyBatch([]Entry{{Index: 10, Data: data}})
	if changes, _ := s.Snapshot().KVChanges("p/", 11); !changes.Resync || len(changes.Changes) != 1 || changes.Index != 10 {
		t.Fatalf("since 11: %s", asText(changes))
	}
	if changes, _ := s.Snapshot().KVChanges("p/", 10); changes.Resync || len(changes.Changes) != 0 {
		t.Fatalf("since 10: %s", asText(changes))
	}
}

// follow applies changes to what a client has, and checks that each fits.
func follow(t *rapid.T, have map[string]string, changes *api.KVChanges) map[string]string {
	now := maps.Clone(have)
	if changes.Resync {
		clear(now)
	}
	for _, c := range changes.Changes {
		was := now[c.Key]
		if (c.PreviousIndex != 0) != (was != "") || was != "" && (!strings.HasPrefix(was, fmt.Sprint(c.Previous)) || !strings.HasSuffix(was, fmt.Sprint(c.PreviousIndex))) {
			t.Fatalf("%s was %q: %s", c.Key, was, asText(c))
		}
		if c.Op == api.KVChangeDelete {
			delete(now, c.Key)
		} else {
			now[c.Key] = fmt.Sprint(c.Value, c.Flags, c.Index)
		}
	}
	return now
}

func TestChangesAreBounded(t *testing.T) {
	s := New()
	large := bytes.Repeat([]byte("x"), 1<<20)
	for i := range uint64(60) {
		large[0] = byte(i)
		data, err := Encode(&KV{Op: KVSet, Entry: api.KVPair{Key: "k", Value: large}}, labTime, Level)
		if err != nil {
			t.Fatal(err)
		}
		s.ApplyBatch([]Entry{{Index: 1 + i, Data: data}})
		if l := s.root.changes; l.bytes > MaxChangeBytes*5/4 || cap(l.entries) > 64 {
			t.Fatalf("%d bytes, room for %d", l.bytes, cap(l.entries))
		}
	}
	old := s.Snapshot()
	before, _ := old.KVChanges("", 59)
	for i := range uint64(2 * MaxChanges) {
		data, err := Encode(&KV{Op: KVSet, Entry: api.KVPair{Key: fmt.Sprint(i % 100), Value: fmt.Append(nil, i)}}, labTime, Level)
		if err != nil {
			t.Fatal(err)
		}
		s.ApplyBatch([]Entry{{Index: 100 + i, Data: data}})
	}
	if n := len(s.root.changes.entries); n < MaxChanges || n > MaxChanges*5/4 {
		t.Errorf("%d changes are remembered", n)
	}
	sn := s.Snapshot()
	if c, _ := sn.KVChanges("", 100); !c.Resync || len(c.Changes) != 101 {
		t.Errorf("long ago: resync %v, %d changes", c.Resync, len(c.Changes))
	}
	if c, meta := sn.KVChanges("k", 99); c.Resync || len(c.Changes) != 0 || meta.Index > 99 {
		t.Errorf("of a key that did not change: %s", asJSON(t, c))
	}
	if c, _ := sn.KVChanges("", sn.Index()-3); c.Resync || len(c.Changes) != 3 {
		t.Errorf("just now: %s", asJSON(t, c))
	}
	if after, _ := old.KVChanges("", 59); !slices.EqualFunc(before.Changes, after.Changes, func(a, b *api.KVChange) bool { return a.Index == b.Index }) {
		t.Error("an old snapshot has other changes now")
	}
}

// A transaction that fails leaves no changes.
func TestChangesOfATransaction(t *testing.T) {
	l := newLab(t)
	l.put("a", "1")
	from := l.index
	l.do(&Txn{Ops: ops(t, `[{"KV":{"Verb":"set","Key":"a","Value":"Mg=="}},{"KV":{"Verb":"get","Key":"none"}}]`)})
	if c, _ := l.sn.KVChanges("", from); len(c.Changes) != 0 {
		t.Errorf("of one that failed: %s", asJSON(t, c))
	}
	l.must(&Txn{Ops: ops(t, `[{"KV":{"Verb":"set","Key":"a","Value":"Mg=="}},{"KV":{"Verb":"set","Key":"a","Value":"Mw=="}},{"KV":{"Verb":"delete","Key":"a"}}]`)})
	c, _ := l.sn.KVChanges("a", from)
	const want = `[{"Op":"set","Key":"a","Flags":0,"Value":"Mg==","Index":12,"Previous":"MQ==","PreviousIndex":10},` +
		`{"Op":"set","Key":"a","Flags":0,"Value":"Mw==","Index":12,"Previous":"Mg==","PreviousIndex":12},` +
		`{"Op":"delete","Key":"a","Flags":0,"Value":null,"Index":12,"Previous":"Mw==","PreviousIndex":12}]`
	if got := asJSON(t, c.Changes); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
