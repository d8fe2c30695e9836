package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/logx"
)

const (
	oldest, newest = uint64(3), uint64(9) // entries of written
	writtenTerm    = 7
)

// written is a log of several segments with votes, as a killed process leaves it.
func written(t *testing.T, usual int64) map[string][]byte {
	t.Helper()
	m := &memory{held: map[string]*memoryFile{}}
	s, err := openFiles(m, usual, false)
	if err != nil {
		t.Fatal(err)
	}
	storeRange(t, s, 1, 5)
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), writtenTerm), s.Set([]byte("LastVoteCand"), []byte("me"))); err != nil {
		t.Fatal(err)
	}
	storeRange(t, s, 6, 6)
	if err := s.DeleteRange(1, oldest-1); err != nil {
		t.Fatal(err)
	}
	storeRange(t, s, 7, 7)
	if err := s.StoreLog(&raft.Log{Index: 8, Term: 1, Data: bytes.Repeat([]byte("long "), 300)}); err != nil {
		t.Fatal(err)
	}
	storeRange(t, s, newest, newest)
	return contents(m)
}

func contents(m *memory) map[string][]byte {
	all := map[string][]byte{}
	for name, f := range m.held {
		all[name] = bytes.Clone(f.data)
	}
	return all
}

func holding(all map[string][]byte) *memory {
	m := &memory{held: map[string]*memoryFile{}}
	for name, data := range all {
		m.held[name] = &memoryFile{data: bytes.Clone(data)}
	}
	return m
}

// refusal opens what may be damaged. It is refused, or nothing is missing.
func refusal(t *testing.T, what string, all map[string][]byte) error {
	t.Helper()
	s, err := reopen(holding(all))
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "memory/") {
			t.Errorf("%s: %v: wants damage and the file's name", what, err)
		}
		return err
	}
	defer s.Close()
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	term, err := s.GetUint64([]byte("CurrentTerm"))
	vote, err2 := s.Get([]byte("LastVoteCand"))
	if first != oldest || last != newest || term != writtenTerm || string(vote) != "me" || err != nil || err2 != nil {
		t.Fatalf("%s: opened with entries %d to %d, term %d, vote %q, %v, %v", what, first, last, term, vote, err, err2)
	}
	for i := oldest; i <= newest; i++ {
		log := read(t, s, i)
		want := []byte("data")
		if i == 8 {
			want = bytes.Repeat([]byte("long "), 300)
		}
		if log.Term != 1 || !bytes.Equal(log.Data, want) {
			t.Fatalf("%s: wrong data in entry %d", what, i)
		}
	}
	return nil
}

// TestEveryFlippedBitIsSeen, and every blank or garbled sector and page: the log is
// refused at its opening, or nothing is missing. That it was killed a moment after
// its last write, without a word about its end but the note, makes no difference.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	for _, usual := range []int64{minSegment, 16 * sectorSize} {
		good := written(t, usual)
		if err := refusal(t, "whole", good); err != nil {
			t.Fatal(err)
		}
		tries := 0
		// values says where in a file a change has to be refused.
		values := func(name string, at int) bool {
			return name != votesFile || at < 2*votesPage*sectorSize && at%(votesPage*sectorSize) < sectorSize
		}
		try := func(what, name string, at int, change func(data []byte) []byte) {
			bad := maps.Clone(good)
			bad[name] = change(bytes.Clone(good[name]))
			if bytes.Equal(bad[name], good[name]) {
				return
			}
			tries++
			if refusal(t, fmt.Sprintf("%s at %d of %s", what, at, name), bad) == nil && values(name, at) {
				t.Errorf("%s at %d of %s is not refused", what, at, name)
			}
		}
		for name, data := range good {
			for bit := range len(data) * 8 {
				// Every head, and some of the rest; little of what nobody reads.
				if bit/8%sectorSize > 40 && bit%61 != 0 || !values(name, bit/8) && bit%997 != 0 {
					continue
				}
				try("a flipped bit", name, bit/8, func(d []byte) []byte { d[bit/8] ^= 1 << (bit % 8); return d })
			}
			for _, size := range []int{sectorSize, 4096} {
				for at := 0; at < len(data); at += size {
					try(fmt.Sprint(size, " blank bytes"), name, at, func(d []byte) []byte { clear(d[at:min(at+size, len(d))]); return d })
					try(fmt.Sprint(size, " bytes garbled"), name, at, func(d []byte) []byte {
						copy(d[at:min(at+size, len(d))], bytes.Repeat([]byte{0xa5}, size))
						return d
					})
				}
			}
			for at := 0; at < len(data); at += sectorSize / 2 {
				try("a cut", name, 0, func(d []byte) []byte { return d[:at] })
			}
			try("one byte more", name, 0, func(d []byte) []byte { return append(d, 0) })
		}
		if tries < 4000 {
			t.Errorf("only %d tries", tries)
		}
	}
}

// TestBlankTailIsMissed: what lies behind the last whole batch looks as if it had
// never been written. The notes tell; without them, the last write of the votes.
func TestBlankTailIsMissed(t *testing.T) {
	m := &memory{held: map[string]*memoryFile{}}
	s, err := openFiles(m, 64*sectorSize, false)
	if err != nil {
		t.Fatal(err)
	}
	blankLast := func(all map[string][]byte, notes bool) map[string][]byte {
		all = maps.Clone(all)
		log := bytes.Clone(all[segmentName(1)])
		clear(log[(s.log.segments[0].end-1)*sectorSize:])
		all[segmentName(1)] = log
		if !notes {
			votes := bytes.Clone(all[votesFile])
			clear(votes[2*votesPage*sectorSize:])
			all[votesFile] = votes
		}
		return all
	}
	missed := func(all map[string][]byte) bool {
		s, err := reopen(holding(all))
		if err == nil {
			s.Close()
			return false
		}
		wantDamage(t, err, segmentName(1), "was stored")
		return true
	}
	storeRange(t, s, 1, 1)
	storeRange(t, s, 2, 2)
	if !missed(blankLast(contents(m), true)) {
		t.Error("a blank tail is taken for one that was never written")
	}
	if missed(blankLast(contents(m), false)) {
		t.Error("what nobody can know is refused")
	}
	if err := s.StoreCommitIndex(1); err != nil {
		t.Fatal(err)
	}
	if !missed(blankLast(contents(m), false)) {
		t.Error("a blank tail is not missed after the commit index was stored")
	}
	storeRange(t, s, 3, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !missed(blankLast(contents(m), false)) {
		t.Error("a blank tail is not missed after Close")
	}
}

// TestMisplacedIsSeen: whole, intact sectors and files in the wrong place, or from
// another time.
func TestMisplacedIsSeen(t *testing.T) {
	good := written(t, minSegment)
	names := slices.Sorted(maps.Keys(good))
	for _, a := range names {
		for _, b := range names {
			if a == b {
				continue
			}
			bad := maps.Clone(good)
			bad[a], bad[b] = bad[b], bad[a]
			if refusal(t, a+" and "+b+" changed places", bad) == nil {
				t.Error(a, "and", b, "may change places")
			}
		}
		bad := maps.Clone(good)
		delete(bad, a)
		if refusal(t, "without "+a, bad) == nil {
			t.Error("nobody misses", a)
		}
	}
	good = written(t, 16*sectorSize)
	log := segmentName(1)
	for at := 0; at+2*sectorSize <= len(good[log]); at += sectorSize {
		one, two := good[log][at:at+sectorSize], good[log][at+sectorSize:at+2*sectorSize]
		if bytes.Equal(one, two) {
			continue
		}
		bad := maps.Clone(good)
		bad[log] = slices.Concat(good[log][:at], two, one, good[log][at+2*sectorSize:])
		if refusal(t, fmt.Sprint("sectors changed places at ", at), bad) == nil {
			t.Error("sectors may change places at", at)
		}
	}
}

// TestOlderSectorIsSeen: whole, intact and in its place, but from another time.
func TestOlderSectorIsSeen(t *testing.T) {
	m := &memory{held: map[string]*memoryFile{}}
	s, err := openFiles(m, 64*sectorSize, false)
	if err != nil {
		t.Fatal(err)
	}
	set := func(term uint64) map[string][]byte {
		if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
			t.Fatal(err)
		}
		return contents(m)
	}
	old := set(1)
	set(2)
	set(3)
	now := set(4)
	for _, at := range []int{0, votesPage * sectorSize} {
		bad := maps.Clone(now)
		bad[votesFile] = bytes.Clone(now[votesFile])
		copy(bad[votesFile][at:at+sectorSize], old[votesFile][at:])
		if _, err := reopen(holding(bad)); !errors.Is(err, ErrDamaged) {
			t.Errorf("an old sector of values at %d: %v", at, err)
		}
	}
	// A batch that was blanked, with another one behind it, and no word about either.
	storeRange(t, s, 1, 1)
	storeRange(t, s, 2, 2)
	bad := contents(m)
	clear(bad[segmentName(1)][sectorSize : 2*sectorSize])
	clear(bad[votesFile][2*votesPage*sectorSize:])
	_, err = reopen(holding(bad))
	wantDamage(t, err, segmentName(1), "sector 2 belongs to batch 2")
}

// TestDamageAfterOpening is seen when an entry is read.
func TestDamageAfterOpening(t *testing.T) {
	m := holding(written(t, 16*sectorSize))
	s := openSmall(t, m)
	defer s.Close()
	for _, f := range m.held {
		for at := sectorSize + sectorHead + 40; at < len(f.data); at += sectorSize {
			f.data[at] ^= 4
		}
	}
	for i := oldest; i <= newest; i++ {
		wantDamage(t, s.GetLog(i, new(raft.Log)), "memory/log-", fmt.Sprint("entry ", i))
	}
}

// TestLostLog: an id that has had a log does not start without one; another id
// does, and so does one that has had none.
func TestLostLog(t *testing.T) {
	data := t.TempDir()
	dir := filepath.Join(data, "raft")
	write(t, filepath.Join(data, idFile), "one")
	open(t, dir).Close()
	open(t, dir).Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := openErr(t, dir); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v: want ErrLost and the file", err)
	}
	write(t, filepath.Join(data, idFile), "two")
	open(t, dir).Close()
}

func TestOpenRefuses(t *testing.T) {
	one := segmentName(1)
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
		is    error
	}{
		{"former format", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, versionFile), "1\n")
		}, "was written by a development version of muster", ErrOldFormat},
		{"newer format", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, versionFile), "3\n")
		}, "is from a newer version of muster: it has format 3, this version reads 2", nil},
		{"garbled format", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, versionFile), "\x00\x00")
		}, "instead of a number", ErrDamaged},
		{"log is gone", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, one))
		}, one + " is gone", ErrLost},
		{"votes are gone", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, votesFile))
		}, votesFile + " are gone", ErrLost},
		{"log is empty", func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, one), 0)
		}, one + " is damaged", ErrDamaged},
		{"log is cut off", func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, one), 3*4096)
		}, "bytes instead of", ErrDamaged},
		{"log is something else", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, one), strings.Repeat("not a log ", 10000))
		}, one + " is damaged", ErrDamaged},
		{"another file with such a name", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "log-old"), "")
		}, "log-old is in the way", nil},
		{"log of another program", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, versionFile))
		}, "muster did not write it", nil},
		{"a directory is a file", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "")
		}, "not a directory", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raft")
			s := open(t, dir)
			storeRange(t, s, 1, 500)
			s.Close()
			tt.spoil(t, dir)
			err := openErr(t, dir)
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v\nwants %q and %q in it", err, tt.want, dir)
			}
			for _, kind := range []error{ErrDamaged, ErrLost, ErrOldFormat} {
				if errors.Is(err, kind) != (tt.is == kind) {
					t.Errorf("%v: is %q: %t", err, kind, tt.is != kind)
				}
			}
		})
	}
}

func TestLockedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	defer s.Close()
	if err := openErr(t, dir); !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

// TestFirstStartCutOff: whatever there is without a version file and without
// entries is what a crash during the first start leaves.
func TestFirstStartCutOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	for _, spoil := range []func(){
		func() {},
		func() { truncate(t, filepath.Join(dir, segmentName(1)), 0) },
		func() { remove(t, filepath.Join(dir, segmentName(1))) },
		func() { truncate(t, filepath.Join(dir, votesFile), 5000) },
	} {
		open(t, dir).Close()
		remove(t, filepath.Join(dir, versionFile))
		spoil()
		open(t, dir).Close()
	}
}

// openErr opens what cannot be opened.
func openErr(t *testing.T, dir string) error {
	t.Helper()
	s, err := Open(dir, logx.Discard())
	if err == nil {
		s.Close()
		t.Fatal("opened")
	}
	return err
}

func wantDamage(t *testing.T, err error, parts ...string) {
	t.Helper()
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("%v: not ErrDamaged", err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v: does not name %q", err, part)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}
