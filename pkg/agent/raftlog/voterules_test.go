package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"
)

// vote gives one as raft does: the term, then the candidate.
func vote(s *Store, term uint64, candidate string) error {
	return errors.Join(s.SetUint64([]byte(VoteTermKey), term), s.Set([]byte(CandidateKey), []byte(candidate)))
}

func wantVote(t *testing.T, s *Store, term uint64, candidate string) {
	t.Helper()
	at, err := s.GetUint64([]byte(VoteTermKey))
	who, err2 := s.Get([]byte(CandidateKey))
	if at != term || string(who) != candidate || err != nil || err2 != nil {
		t.Errorf("the vote is %q in term %d (%v, %v), want %q in term %d", who, at, err, err2, candidate, term)
	}
}

// TestOneVoteATerm: a term never falls and a vote is never taken back, whoever asks
// for it and in what order; what is refused leaves all as it was, on disk too.
func TestOneVoteATerm(t *testing.T) {
	m := &memory{held: map[string]*memoryFile{}}
	s := openSmall(t, m)
	if err := errors.Join(s.SetUint64([]byte(TermKey), 7), vote(s, 7, "a")); err != nil {
		t.Fatal(err)
	}
	refused := map[string]func() error{
		"a lower term":             func() error { return s.SetUint64([]byte(TermKey), 6) },
		"no term":                  func() error { return s.SetUint64([]byte(TermKey), 0) },
		"a second candidate":       func() error { return vote(s, 7, "b") },
		"a candidate by itself":    func() error { return s.Set([]byte(CandidateKey), []byte("b")) },
		"no candidate":             func() error { return vote(s, 7, "") },
		"a vote in an older term":  func() error { return vote(s, 6, "a") },
		"a vote in a term to come": func() error { return vote(s, 8, "a") },
	}
	for what, try := range refused {
		if err := try(); !errors.Is(err, ErrVote) {
			t.Errorf("%s: %v", what, err)
		}
		wantVote(t, s, 7, "a")
		s.votes.voteTerm = nil
		wantVote(t, openSmall(t, m), 7, "a")
	}
	allowed := []error{
		vote(s, 7, "a"), s.SetUint64([]byte(TermKey), 7), s.SetUint64([]byte(TermKey), 9), vote(s, 8, "b"), vote(s, 9, "c"),
	}
	if err := errors.Join(allowed...); err != nil {
		t.Error(err)
	}
	wantVote(t, openSmall(t, m), 9, "c")
}

// TestVoteIsOneThing: stopped at any write, the disk never holds the term of a new
// vote with the candidate of the former one.
func TestVoteIsOneThing(t *testing.T) {
	m := &memory{held: map[string]*memoryFile{}}
	s := openSmall(t, m)
	if err := errors.Join(s.SetUint64([]byte(TermKey), 6), vote(s, 6, "a"), s.SetUint64([]byte(TermKey), 7)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte(VoteTermKey), 7); err != nil {
		t.Fatal(err)
	}
	wantVote(t, openSmall(t, m), 6, "a")          // the process is killed here
	if err := s.StoreCommitIndex(3); err != nil { // and this must not take half a vote along
		t.Fatal(err)
	}
	wantVote(t, openSmall(t, m), 6, "a")
	if err := s.Set([]byte(CandidateKey), []byte("b")); err != nil {
		t.Fatal(err)
	}
	wantVote(t, openSmall(t, m), 7, "b")
}

// TestFailedWriteIsRepeated: a term whose write failed may be on disk or not, so the
// one from before is written again when it is asked for.
func TestFailedWriteIsRepeated(t *testing.T) {
	s := openSmall(t, &memory{held: map[string]*memoryFile{}})
	if err := s.SetUint64([]byte(TermKey), 3); err != nil {
		t.Fatal(err)
	}
	f := &countedFile{file: s.votes.file, fail: true}
	s.votes.file = f
	if err := s.SetUint64([]byte(TermKey), 4); err == nil {
		t.Fatal("a failed write is none")
	}
	f.fail = false
	for range 2 {
		if err := s.SetUint64([]byte(TermKey), 3); err != nil {
			t.Fatal(err)
		}
	}
	if f.wrote != 1 {
		t.Errorf("%d writes of the term that was there", f.wrote)
	}
}

type countedFile struct {
	file
	fail  bool
	wrote int
}

func (f *countedFile) write(p []byte, at int64) error {
	if f.fail {
		return errors.New("it fails")
	}
	f.wrote++
	return f.file.write(p, at)
}

// TestContradictionIsDamage: two whole sectors, each intact, that cannot follow each
// other.
func TestContradictionIsDamage(t *testing.T) {
	u64 := func(n uint64) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, byte(n)} }
	for i, tt := range []struct {
		older, newer map[string][]byte
		wrong        bool
	}{
		{map[string][]byte{TermKey: u64(7)}, map[string][]byte{TermKey: u64(6)}, true},
		{map[string][]byte{TermKey: u64(7), VoteTermKey: u64(7)}, map[string][]byte{TermKey: u64(7), VoteTermKey: u64(6)}, true},
		{map[string][]byte{TermKey: u64(7)}, map[string][]byte{TermKey: u64(7), VoteTermKey: u64(8)}, true},
		{map[string][]byte{TermKey: u64(7), VoteTermKey: u64(8)}, map[string][]byte{TermKey: u64(8), VoteTermKey: u64(8)}, true},
		{map[string][]byte{TermKey: u64(1), VoteTermKey: u64(1)}, map[string][]byte{TermKey: u64(0)}, true},
		{map[string][]byte{TermKey: u64(1)}, map[string][]byte{TermKey: u64(0)}, false}, // a bootstrap taken back
		{map[string][]byte{TermKey: u64(6), VoteTermKey: u64(6)}, map[string][]byte{TermKey: u64(8), VoteTermKey: u64(6)}, false},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			m := &memory{held: map[string]*memoryFile{}}
			s := openSmall(t, m)
			if err := errors.Join(s.votes.put(tt.older), s.votes.put(tt.newer)); err != nil {
				t.Fatal(err)
			}
			all := contents(m)
			kept := maps.Clone(all)
			_, err := reopen(holding(all))
			if tt.wrong {
				wantDamage(t, err, votesFile, "rules of voting")
			} else if err != nil {
				t.Error(err)
			}
			if !bytes.Equal(kept[votesFile], all[votesFile]) {
				t.Error("the look at it has changed it")
			}
		})
	}
}
