package raftlog

import (
	"bytes"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/logx"
)

// TestConformance is what raft relies on, over every directory of files.
func TestConformance(t *testing.T) {
	stores := map[string]func(t *testing.T) *Store{
		"memory": func(*testing.T) *Store { return Memory() },
		"disk": func(t *testing.T) *Store {
			return open(t, filepath.Join(t.TempDir(), "data", "raft"))
		},
		"segments of one batch": func(t *testing.T) *Store {
			return openSmall(t, &memory{held: map[string]*memoryFile{}})
		},
	}
	rules := map[string]func(t *testing.T, s *Store){
		"an empty store":                emptyStore,
		"entries come back as they are": entriesComeBack,
		"the caller's entry is left":    entryIsLeft,
		"ranges are deleted":            rangesAreDeleted,
		"entries are overwritten":       entriesAreOverwritten,
		"what does not follow":          notInOrder,
		"a gap":                         gap,
		"the commit index follows":      commitFollows,
		"the commit index by itself":    commitByItself,
		"values come back":              valuesComeBack,
	}
	for name, make := range stores {
		for rule, check := range rules {
			t.Run(name+"/"+rule, func(t *testing.T) {
				s := make(t)
				defer s.Close()
				check(t, s)
			})
		}
	}
}

func emptyStore(t *testing.T, s *Store) {
	wantBounds(t, s, 0, 0)
	wantCommit(t, s, 0)
	if err := s.GetLog(1, new(raft.Log)); err != raft.ErrLogNotFound {
		t.Errorf("GetLog of nothing: %v, want raft.ErrLogNotFound itself", err)
	}
	if val, err := s.Get([]byte("k")); val != nil || err != nil {
		t.Errorf("Get of nothing: %q, %v", val, err)
	}
	if n, err := s.GetUint64([]byte("k")); n != 0 || err != nil {
		t.Errorf("GetUint64 of nothing: %d, %v", n, err)
	}
}

func entriesComeBack(t *testing.T, s *Store) {
	want := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte("conf")},
		{Index: 2, Term: 1, Type: raft.LogNoop},
		{Index: 3, Term: 2, Type: raft.LogCommand, Data: []byte("a"), Extensions: []byte("own")},
		{Index: 4, Term: 2, Type: raft.LogCommand, Data: bytes.Repeat([]byte{0xff}, 1<<20), AppendedAt: time.Now().Round(0)},
	}
	if err := s.StoreLogs(want[:3]); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(want[3]); err != nil {
		t.Fatal(err)
	}
	wantBounds(t, s, 1, 4)
	for _, w := range want {
		got := read(t, s, w.Index)
		if got.Term != w.Term || got.Type != w.Type || !bytes.Equal(got.Data, w.Data) ||
			!bytes.Equal(got.Extensions, w.Extensions) || !got.AppendedAt.Equal(w.AppendedAt) {
			t.Errorf("entry %d came back changed: %d %v %d bytes, extensions %q, %v",
				w.Index, got.Term, got.Type, len(got.Data), got.Extensions, got.AppendedAt)
		}
	}
}

func entryIsLeft(t *testing.T, s *Store) {
	ext := append(make([]byte, 0, 64), "own"...) // room for a careless append
	log := &raft.Log{Index: 1, Term: 1, Data: []byte("a"), Extensions: ext}
	before := *log
	if err := s.StoreLog(log); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*log, before) || !bytes.Equal(ext[:cap(ext)][3:16], make([]byte, 13)) {
		t.Error("StoreLog changed the entry that raft goes on to replicate")
	}
	got := read(t, s, 1)
	_ = append(got.Extensions, "xxxxxxxxxxxxxxxx"...)
	if again := read(t, s, 1); string(again.Extensions) != "own" {
		t.Errorf("extensions after a reader's append: %q", again.Extensions)
	}
}

func rangesAreDeleted(t *testing.T, s *Store) {
	storeRange(t, s, 1, 10)
	for _, cut := range []struct{ min, max, first, last uint64 }{
		{1, 3, 4, 10},
		{9, 10, 4, 8},
		{4, 8, 0, 0},
	} {
		if err := s.DeleteRange(cut.min, cut.max); err != nil {
			t.Fatal(err)
		}
		wantBounds(t, s, cut.first, cut.last)
		if err := s.GetLog(cut.min, new(raft.Log)); err != raft.ErrLogNotFound {
			t.Errorf("deleted entry %d: %v", cut.min, err)
		}
	}
	storeRange(t, s, 20, 21) // a gap, as after a snapshot from the leader
	wantBounds(t, s, 20, 21)
}

func entriesAreOverwritten(t *testing.T, s *Store) {
	storeRange(t, s, 1, 3)
	if err := s.StoreLog(&raft.Log{Index: 2, Term: 9, Data: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, 2); got.Term != 9 || string(got.Data) != "new" {
		t.Errorf("entry 2: term %d, %q", got.Term, got.Data)
	}
}

func notInOrder(t *testing.T, s *Store) {
	storeRange(t, s, 1, 9)
	if err := s.StoreLogs([]*raft.Log{{Index: 10}, {Index: 12}}); err == nil {
		t.Error("entries with a hole were stored")
	}
	if err := s.DeleteRange(4, 5); err == nil {
		t.Error("entries in the middle were deleted")
	}
	if err := errors.Join(s.DeleteRange(11, 20), s.DeleteRange(5, 4), s.StoreLogs(nil)); err != nil {
		t.Error(err)
	}
	wantBounds(t, s, 1, 9)
}

// gap: a follower that was killed after it took a snapshot, and before it deleted
// its older entries, goes on behind the snapshot.
func gap(t *testing.T, s *Store) {
	storeRange(t, s, 1, 5)
	storeRange(t, s, 20, 21)
	wantBounds(t, s, 20, 21)
	read(t, s, 20)
}

func commitFollows(t *testing.T, s *Store) {
	storeRange(t, s, 1, 4)
	wantCommit(t, s, 0)
	stage(t, s, 3)
	wantCommit(t, s, 0) // staged is not stored
	storeRange(t, s, 5, 6)
	wantCommit(t, s, 3)
	stage(t, s, 2) // never back
	storeRange(t, s, 7, 7)
	wantCommit(t, s, 3)
	stage(t, s, 100)
	storeRange(t, s, 8, 8)
	wantCommit(t, s, 8) // never past the last entry
	if err := s.DeleteRange(5, 8); err != nil {
		t.Fatal(err)
	}
	wantCommit(t, s, 0) // what entry 4 was stored with
}

// commitByItself: the newest one counts, but none beyond the last entry.
func commitByItself(t *testing.T, s *Store) {
	if err := s.StoreLogs([]*raft.Log{{Index: 1}, {Index: 2}, {Index: 3}}); err != nil {
		t.Fatal(err)
	}
	wantCommit(t, s, 0)
	for _, index := range []uint64{2, 3, 9} {
		if err := s.StoreCommitIndex(index); err != nil {
			t.Fatal(err)
		}
		wantCommit(t, s, min(index, 3))
	}
}

func valuesComeBack(t *testing.T, s *Store) {
	if err := s.Set([]byte("LastVoteCand"), []byte("node-a")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 1<<63|7); err != nil {
		t.Fatal(err)
	}
	if err := s.Set([]byte("empty"), nil); err != nil {
		t.Fatal(err)
	}
	if val, err := s.Get([]byte("LastVoteCand")); string(val) != "node-a" || err != nil {
		t.Errorf("LastVoteCand: %q, %v", val, err)
	}
	if n, err := s.GetUint64([]byte("CurrentTerm")); n != 1<<63|7 || err != nil {
		t.Errorf("CurrentTerm: %d, %v", n, err)
	}
	if val, err := s.Get([]byte("empty")); len(val) != 0 || err != nil {
		t.Errorf("empty: %q, %v", val, err)
	}
	if _, err := s.GetUint64([]byte("LastVoteCand")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a text read as a number: %v", err)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	held := &memory{held: map[string]*memoryFile{}}
	for name, open := range map[string]func() *Store{
		"disk":                  func() *Store { return open(t, dir) },
		"segments of one batch": func() *Store { return openSmall(t, held) },
	} {
		t.Run(name, func(t *testing.T) { reopenKeepsEverything(t, open) })
	}
}

func reopenKeepsEverything(t *testing.T, open func() *Store) {
	s := open()
	storeRange(t, s, 1, 5)
	stage(t, s, 4)
	storeRange(t, s, 6, 6)
	if err := s.SetUint64([]byte("CurrentTerm"), 3); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open()
	wantBounds(t, s, 1, 6)
	wantCommit(t, s, 4)
	if n, err := s.GetUint64([]byte("CurrentTerm")); n != 3 || err != nil {
		t.Errorf("CurrentTerm: %d, %v", n, err)
	}
	storeRange(t, s, 7, 7) // before anything was staged in this run
	wantCommit(t, s, 4)
	if err := errors.Join(s.DeleteRange(1, 2), s.DeleteRange(7, 7), s.Close()); err != nil {
		t.Fatal(err)
	}

	s = open()
	wantBounds(t, s, 3, 6)
	for i := uint64(3); i <= 6; i++ {
		read(t, s, i)
	}
	if err := errors.Join(s.DeleteRange(1, 6), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	wantBounds(t, s, 0, 0)
	storeRange(t, s, 7, 8)
	wantBounds(t, s, 7, 8)
}

// TestOldSegmentsGo: deleted entries give their room back.
func TestOldSegmentsGo(t *testing.T) {
	held := &memory{held: map[string]*memoryFile{}}
	s := openSmall(t, held)
	defer s.Close()
	for i := uint64(1); i <= 100; i++ {
		storeRange(t, s, i, i)
	}
	if err := s.DeleteRange(1, 95); err != nil {
		t.Fatal(err)
	}
	if names, _ := held.names(segmentPrefix); len(names) > 7 {
		t.Errorf("%d segments for 5 entries", len(names))
	}
	for i := uint64(96); i <= 100; i++ {
		read(t, s, i)
	}
}

// openSmall opens what nothing or an earlier one has left, with segments as small as
// they can be.
func openSmall(t *testing.T, dir files) *Store {
	t.Helper()
	s, err := reopen(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reopen(dir files) (*Store, error) {
	there, err := dir.names("")
	if err != nil {
		return nil, err
	}
	return openFiles(dir, minSegment, len(there) > 0)
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func storeRange(t *testing.T, s *Store, from, to uint64) {
	t.Helper()
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Data: []byte("data"), AppendedAt: time.Now()})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *Store, index uint64) raft.Log {
	t.Helper()
	var log raft.Log
	if err := s.GetLog(index, &log); err != nil {
		t.Fatal(err)
	}
	if log.Index != index {
		t.Fatalf("entry %d says %d", index, log.Index)
	}
	return log
}

func stage(t *testing.T, s *Store, index uint64) {
	t.Helper()
	if err := s.StageCommitIndex(index); err != nil {
		t.Fatal(err)
	}
}

func wantBounds(t *testing.T, s *Store, first, last uint64) {
	t.Helper()
	f, err := s.FirstIndex()
	l, err2 := s.LastIndex()
	if f != first || l != last || err != nil || err2 != nil {
		t.Errorf("bounds %d..%d (%v, %v), want %d..%d", f, l, err, err2, first, last)
	}
}

func wantCommit(t *testing.T, s *Store, want uint64) {
	t.Helper()
	if got, err := s.GetCommitIndex(); got != want || err != nil {
		t.Errorf("commit index %d, %v, want %d", got, err, want)
	}
}
