package state

import (
	"slices"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

func TestKVVerbs(t *testing.T) {
	set := func(op KVOp, key, value string, index uint64) *KV {
		return &KV{Op: op, Entry: api.KVPair{Key: key, Value: []byte(value)}, Index: index}
	}
	session := func(op KVOp, id string) *KV {
		return &KV{Op: op, Entry: api.KVPair{Key: "a", Session: id}}
	}
	// "a" is there with ModifyIndex 10, "gone" was deleted; index 20 comes next.
	for _, tc := range []struct {
		name   string
		cmd    *KV
		want   any // bool, or the text of an error
		modify uint64
		value  string // of the key afterwards; "" if absent
	}{
		{"set", set(KVSet, "a", "2", 0), true, 20, "2"},
		{"set new", set(KVSet, "b", "2", 0), true, 20, "2"},
		{"set identical", set(KVSet, "a", "1", 0), true, 10, "1"},
		{"cas right", set(KVCAS, "a", "2", 10), true, 20, "2"},
		{"cas right identical", set(KVCAS, "a", "1", 10), true, 10, "1"},
		{"cas wrong", set(KVCAS, "a", "2", 9), false, 10, "1"},
		{"cas 0 on a key", set(KVCAS, "a", "2", 0), false, 10, "1"},
		{"cas 0 on nothing", set(KVCAS, "gone", "2", 0), true, 20, "2"},
		{"cas on nothing", set(KVCAS, "gone", "2", 10), false, 0, ""},
		{"delete", set(KVDelete, "a", "", 0), true, 0, ""},
		{"delete nothing", set(KVDelete, "gone", "", 0), true, 0, ""},
		{"delete-cas right", set(KVDeleteCAS, "a", "", 10), true, 0, ""},
		{"delete-cas wrong", set(KVDeleteCAS, "a", "", 9), false, 10, "1"},
		{"delete-cas 0 on a key", set(KVDeleteCAS, "a", "", 0), false, 10, "1"},
		{"delete-cas nothing", set(KVDeleteCAS, "gone", "", 7), true, 0, ""},
		{"delete-tree", set(KVDeleteTree, "a", "", 0), true, 0, ""},
		{"delete-tree of all", set(KVDeleteTree, "", "", 0), true, 0, ""},
		{"no key", set(KVSet, "", "1", 0), "Must provide key", 0, ""},
		{"acquire without session", session(KVLock, ""), "missing session", 10, "1"},
		{"acquire", session(KVLock, "s1"), `invalid session "s1"`, 10, "1"},
		{"release without session", session(KVUnlock, ""), "missing session", 10, "1"},
		{"release", session(KVUnlock, "s1"), false, 10, "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t)
			l.put("a", "1")
			l.put("gone", "1")
			l.must(&KV{Op: KVDelete, Entry: api.KVPair{Key: "gone"}})
			l.index = 19
			result, touched := l.do(tc.cmd)
			if err, ok := result.(error); ok {
				result = err.Error()
			}
			if result != tc.want {
				t.Errorf("result is %v, want %v", result, tc.want)
			}
			e, meta := l.sn.KVGet(tc.cmd.Entry.Key)
			if e == nil {
				e = &api.KVPair{}
			}
			if string(e.Value) != tc.value || e.ModifyIndex != tc.modify {
				t.Errorf("key is %q at %d, want %q at %d", e.Value, e.ModifyIndex, tc.value, tc.modify)
			}
			if tc.cmd.Entry.Key == "" {
				_, meta = l.sn.KVList("")
			}
			if moved := meta.Index == 20; moved != (len(touched) > 0) {
				t.Errorf("index is %d, touched %v", meta.Index, touched)
			}
		})
	}
}

func TestKVShapes(t *testing.T) {
	l := newLab(t)
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "e", Value: []byte{}, Flags: 1<<64 - 1}})
	e, _ := l.sn.KVGet("e")
	want := `{"LockIndex":0,"Key":"e","Flags":18446744073709551615,"Value":null,"CreateIndex":10,"ModifyIndex":10}`
	if got := asJSON(t, e); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if touched := l.put("e", ""); len(touched) == 0 {
		t.Error("other flags are no change")
	}
	if touched := l.put("e", ""); len(touched) != 0 {
		t.Errorf("an identical put touches %v", touched)
	}
}

func TestKVLists(t *testing.T) {
	l := newLab(t)
	for _, key := range []string{"b", "a", "a/", "a/b/c", "a/b/d", "a/x", "ab", "a\x00b", "a\xff"} {
		l.put(key, "1")
	}
	for _, tc := range []struct {
		prefix, separator string
		want              []string
	}{
		{"", "", []string{"a", "a\x00b", "a/", "a/b/c", "a/b/d", "a/x", "ab", "a\xff", "b"}},
		{"a/", "", []string{"a/", "a/b/c", "a/b/d", "a/x"}},
		{"a/", "/", []string{"a/", "a/b/", "a/x"}},
		{"", "/", []string{"a", "a\x00b", "a/", "ab", "a\xff", "b"}},
		{"a/b", "/b", []string{"a/b/c", "a/b/d"}},
		{"a", "/b/", []string{"a", "a\x00b", "a/", "a/b/", "a/x", "ab", "a\xff"}},
		{"zzz", "", []string{}},
	} {
		if got, _ := l.sn.KVKeys(tc.prefix, tc.separator); !slices.Equal(got, tc.want) || got == nil {
			t.Errorf("keys %q %q: %q, want %q", tc.prefix, tc.separator, got, tc.want)
		}
		entries, _ := l.sn.KVList(tc.prefix)
		for i, e := range entries {
			if tc.separator == "" && e.Key != tc.want[i] {
				t.Errorf("list %q: entry %d is %q", tc.prefix, i, e.Key)
			}
		}
	}
}

// One tombstone per deleted key: a list of a longer prefix than the deleted one
// must move too.
func TestARecursiveDeleteMovesLongerPrefixes(t *testing.T) {
	l := newLab(t)
	l.put("p/x/1", "1")
	l.put("p/y", "1")
	l.put("q", "1")
	_, before := l.sn.KVList("p/x/")
	touched := l.must(&KV{Op: KVDeleteTree, Entry: api.KVPair{Key: "p"}})
	if _, after := l.sn.KVList("p/x/"); after.Index != l.index || !anyWakes(before, touched) {
		t.Errorf("index of p/x/ is %d after the delete at %d; touched %v", after.Index, l.index, touched)
	}
	if _, meta := l.sn.KVList("q"); meta.Index != 12 || anyWakes(meta, touched) {
		t.Errorf("index of q is %d, touched %v", meta.Index, touched)
	}
	if _, meta := l.sn.KVGet("p/none"); meta.Index != 1 || anyWakes(meta, touched) {
		t.Errorf("index of a key that never was is %d", meta.Index)
	}
}

func TestTombstonesAreBounded(t *testing.T) {
	l := newLab(t)
	l.s.root.maxTombstones = 3
	keys := []string{"a", "b", "c", "d", "e"}
	for _, key := range keys {
		l.put(key, "1")
	}
	l.put("stays", "1") // 15
	for _, key := range keys {
		l.must(&KV{Op: KVDelete, Entry: api.KVPair{Key: key}}) // 16..20
	}
	// a and b are forgotten: the floor is 17.
	for key, want := range map[string]uint64{"a": 17, "b": 17, "c": 18, "d": 19, "e": 20, "never": 17, "stays": 15} {
		if _, meta := l.sn.KVGet(key); meta.Index != want {
			t.Errorf("index of %s is %d, want %d", key, meta.Index, want)
		}
	}
	if _, meta := l.sn.KVList("s"); meta.Index != 17 {
		t.Errorf("index of a list above a dropped tombstone is %d, want the floor 17", meta.Index)
	}
	l.put("c", "again")
	l.put("f", "1")
	l.must(&KV{Op: KVDelete, Entry: api.KVPair{Key: "f"}})
	if _, meta := l.sn.KVGet("never"); meta.Index != 17 {
		t.Errorf("floor is %d, but a key that came back left room", meta.Index)
	}
	restored := New()
	restored.root.maxTombstones = 3
	if err := restored.Restore(bytesReader(l.bytes())); err != nil {
		t.Fatal(err)
	}
	more := []Entry{l.entry(&KV{Op: KVDeleteTree}, 99)}
	l.s.ApplyBatch(more)
	restored.ApplyBatch(more)
	if !slices.Equal(l.bytes(), snapshotBytes(t, restored)) {
		t.Error("a restored store drops other tombstones")
	}
}

func TestATreeOfMoreKeysThanTombstones(t *testing.T) {
	l := newLab(t)
	l.s.root.maxTombstones = 2
	for _, key := range []string{"p/1", "p/2", "p/3", "p/4", "q"} {
		l.put(key, "1")
	}
	_, before := l.sn.KVGet("p/4")
	touched := l.must(&KV{Op: KVDeleteTree, Entry: api.KVPair{Key: "p/"}})
	if len(touched) != 4 || !anyWakes(before, touched) {
		t.Errorf("touched %v", touched)
	}
	for _, key := range []string{"p/1", "p/4"} {
		if e, meta := l.sn.KVGet(key); e != nil || meta.Index != l.index {
			t.Errorf("%s is %v at %d", key, e, meta.Index)
		}
	}
	if n := l.s.root.tombstones[topicKV]; n != 2 {
		t.Errorf("%d tombstones are kept", n)
	}
}
