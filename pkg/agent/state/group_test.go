package state

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/pkg/api"
)

func grouped(t testing.TB, cmds ...Command) []byte {
	t.Helper()
	var all [][]byte
	for _, cmd := range cmds {
		data, err := Encode(cmd, labTime, Level)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	return Group(all)
}

func set(key, value string) *KV {
	return &KV{Op: KVSet, Entry: api.KVPair{Key: key, Value: []byte(value)}}
}

// Each command of a group has its own result, and a bad one harms no other.
func TestGroupAnswersEach(t *testing.T) {
	l := newLab(t)
	l.put("b", "0")
	data := grouped(t,
		set("a", "1"),
		&KV{Op: KVCAS, Entry: api.KVPair{Key: "b", Value: []byte("1")}, Index: 1},
		&KV{Op: KVLock, Entry: api.KVPair{Key: "c", Session: "none"}},
		&KV{Op: KVCAS, Entry: api.KVPair{Key: "d"}})
	results, touched := l.s.ApplyBatch([]Entry{{Index: 20, Data: data}})
	each := results[0].([]any)
	if len(each) != 4 || each[0] != true || each[1] != false || each[3] != true {
		t.Errorf("results %v", each)
	}
	if err, ok := each[2].(error); !ok || !strings.Contains(err.Error(), "invalid session") {
		t.Errorf("a lock of no session answers %v", each[2])
	}
	if len(touched) != 2 {
		t.Errorf("touched %v", touched)
	}
	sn := l.s.Snapshot()
	for key, index := range map[string]uint64{"a": 20, "b": 10, "d": 20} {
		if e, meta := sn.KVGet(key); e == nil || e.ModifyIndex != index || meta.Index != index {
			t.Errorf("%s is %+v at %d, want index %d", key, e, meta.Index, index)
		}
	}
}

// A group that is not whole changes nothing.
func TestBrokenGroupChangesNothing(t *testing.T) {
	whole := grouped(t, set("a", "1"), set("b", "1"))
	for n := 1; n < len(whole); n++ {
		results, touched := New().ApplyBatch([]Entry{{Index: 20, Data: whole[:n]}})
		each, isList := results[0].([]any)
		if _, failed := results[0].(error); !failed && !isList || len(each) > 1 || len(each) != len(touched) {
			t.Fatalf("%d bytes of %d: %v, touched %v", n, len(whole), results[0], touched)
		}
	}
}

func TestGoldenGroup(t *testing.T) {
	golden, err := os.ReadFile("testdata/group-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	if data := grouped(t, set("a", "1"), set("b", strings.Repeat("x", 200))); !bytes.Equal(data, golden) {
		t.Errorf("a group is %q, want %q", data, golden)
	}
	l := newLab(t)
	if results, _ := l.s.ApplyBatch([]Entry{{Index: 20, Data: golden}}); !slices.Equal(results[0].([]any), []any{true, true}) {
		t.Errorf("it answers %v", results)
	}
}

func TestGroupKey(t *testing.T) {
	for _, tc := range []struct {
		cmd  Command
		key  string
		want bool
	}{
		{set("a", ""), "a", true},
		{&KV{Op: KVLock, Entry: api.KVPair{Key: "l", Session: "s"}}, "l", true},
		{&KV{Op: KVDelete, Entry: api.KVPair{Key: "d"}}, "d", true},
		{&KV{Op: KVDeleteTree, Entry: api.KVPair{Key: "d"}}, "", false},
		{&Txn{}, "", false},
		{&SessionDestroy{"s"}, "", false},
		{&Reap{}, "", false},
	} {
		if key, ok := GroupKey(tc.cmd); key != tc.key || ok != tc.want {
			t.Errorf("%+v: %q, %v", tc.cmd, key, ok)
		}
	}
}

// genEntry makes one entry: mostly of a single command, now and then a group, as
// proposers make them. apply runs it on a model and gives the results.
func genEntry(t *rapid.T, m *model) (data []byte, oneThing bool, apply func(index uint64) []any) {
	first := genCommand(t, m)
	now := genTime(t, m)
	cmds := []Command{first}
	if key, ok := GroupKey(first); ok && rapid.Bool().Draw(t, "group") {
		keys := []string{key}
		for range rapid.IntRange(1, 4).Draw(t, "more") {
			next := genCommand(t, m)
			if key, ok := GroupKey(next); ok && !slices.Contains(keys, key) {
				cmds, keys = append(cmds, next), append(keys, key)
			}
		}
	}
	var all [][]byte
	for _, cmd := range cmds {
		one, err := Encode(cmd, now, Level)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if data = all[0]; len(all) > 1 {
		data = Group(all)
	}
	return data, len(cmds) > 1 || doesOneThing(first), func(index uint64) []any {
		var results []any
		for _, cmd := range cmds {
			results = append(results, m.apply(index, now, cmd))
		}
		return results
	}
}
