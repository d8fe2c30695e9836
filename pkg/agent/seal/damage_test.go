package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/muster-dev/muster/pkg/logx"
)

// TestEveryFlippedBitOfAnEntryIsSeen stores as many entries as an entry has
// bits and flips another one in each.
func TestEveryFlippedBitOfAnEntryIsSeen(t *testing.T) {
	const entries = 1200
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	storeRange(t, s, 1, entries+1) // Open reads the newest: it stays whole
	want := make([]raft.Log, entries+1)
	for i := uint64(1); i <= entries; i++ {
		want[i] = read(t, s, i)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, dir, "logs", func(b *bbolt.Bucket) {
		for i := 1; i <= entries; i++ {
			key := binary.BigEndian.AppendUint64(nil, uint64(i))
			flip(t, b, key, i)
			if bits := len(b.Get(key)) * 8; bits > entries {
				t.Fatalf("%d entries do not cover %d bits", entries, bits)
			}
		}
	})

	s = open(t, dir)
	defer s.Close()
	refused := 0
	for i := uint64(1); i <= entries; i++ {
		var log raft.Log
		err := s.GetLog(i, &log)
		if err == nil { // a bit of the encoding that means nothing
			if !sameEntry(log, want[i]) {
				t.Errorf("entry %d: wrong data without an error", i)
			}
			continue
		}
		refused++
		wantDamage(t, err, filepath.Join(dir, logFile), fmt.Sprintf("entry %d", i))
	}
	if refused < entries*9/10 {
		t.Errorf("only %d of %d damaged entries were refused", refused, entries)
	}
}

// TestEveryFlippedBitOfAValueIsSeen: at once, before raft could read it.
func TestEveryFlippedBitOfAValueIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	key := []byte("CurrentTerm")
	if err := s.SetUint64(key, 7); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for bit := range (8 + valueSeal) * 8 {
		raw(t, dir, "conf", func(b *bbolt.Bucket) { flip(t, b, key, bit) })
		wantDamage(t, openErr(t, dir), filepath.Join(dir, logFile), string(key))
		raw(t, dir, "conf", func(b *bbolt.Bucket) { flip(t, b, key, bit) })
	}
	open(t, dir).Close()
}

// TestChangedKeyIsSeen: a vote under another key would be no vote.
func TestChangedKeyIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	if err := s.SetUint64([]byte("LastVoteTerm"), 7); err != nil {
		t.Fatal(err)
	}
	s.Close()
	raw(t, dir, "conf", func(b *bbolt.Bucket) {
		put(t, b, []byte("LastVoteTerl"), bytes.Clone(b.Get([]byte("LastVoteTerm"))))
		if err := b.Delete([]byte("LastVoteTerm")); err != nil {
			t.Fatal(err)
		}
	})
	wantDamage(t, openErr(t, dir), "LastVoteTerl")
}

// TestRootPagesAreBothVerified: bolt itself takes the older of the two when the
// newer one is damaged, and so forgets a vote without a word.
func TestRootPagesAreBothVerified(t *testing.T) {
	for root := range 2 {
		dir := filepath.Join(t.TempDir(), "raft")
		s := open(t, dir)
		storeRange(t, s, 1, 5)
		s.Close()
		path := filepath.Join(dir, logFile)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[root*os.Getpagesize()+16+48] ^= 1 // in the transaction's number
		write(t, path, string(data))
		wantDamage(t, openErr(t, dir), path, fmt.Sprint("root page ", root))
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

// TestSwappedIsSeen: whole, intact values in the wrong place.
func TestSwappedIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	storeRange(t, s, 1, 2)
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if err := s.SetUint64([]byte(key), 4); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	one, two := binary.BigEndian.AppendUint64(nil, 1), binary.BigEndian.AppendUint64(nil, 2)
	raw(t, dir, "logs", func(b *bbolt.Bucket) { put(t, b, one, bytes.Clone(b.Get(two))) })
	s = open(t, dir)
	wantDamage(t, s.GetLog(1, new(raft.Log)), dir, "it says that it is entry 2")
	s.Close()
	raw(t, dir, "conf", func(b *bbolt.Bucket) {
		put(t, b, []byte("CurrentTerm"), bytes.Clone(b.Get([]byte("LastVoteTerm"))))
	})
	wantDamage(t, openErr(t, dir), "CurrentTerm")
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
	if err := openErr(t, dir); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), filepath.Join(dir, logFile)) {
		t.Errorf("%v: want ErrLost and the file", err)
	}
	write(t, filepath.Join(data, idFile), "two")
	open(t, dir).Close()
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		spoil  func(t *testing.T, dir string)
		want   string
		damage bool
	}{
		{"newer format", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, versionFile), "2\n")
		}, "is from a newer version of muster: it has format 2, this version reads up to 1", false},
		{"garbled format", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, versionFile), "\x00\x00")
		}, "instead of a number", true},
		{"log is gone", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, logFile))
		}, "is gone or empty", false},
		{"log is empty", func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, logFile), 0)
		}, "is gone or empty", false},
		{"log is cut off", func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, logFile), 3*4096)
		}, "bytes long where it says", true},
		{"newest entry is damaged", func(t *testing.T, dir string) {
			raw(t, dir, "logs", func(b *bbolt.Bucket) { flip(t, b, binary.BigEndian.AppendUint64(nil, 500), 300) })
		}, "entry 500", true},
		{"log is something else", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, logFile), strings.Repeat("not bolt ", 10000))
		}, "raft.db is damaged", true},
		{"log of another program", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, versionFile))
		}, "muster did not write it", false},
		{"a directory is a file", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "")
		}, "not a directory", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raft")
			s := open(t, dir)
			storeRange(t, s, 1, 500)
			if err := s.SetUint64([]byte("CurrentTerm"), 1); err != nil {
				t.Fatal(err)
			}
			s.Close()
			tt.spoil(t, dir)
			s, err := Open(dir, logx.Discard())
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v\nwants %q and %q in it", err, tt.want, dir)
			}
			if errors.Is(err, ErrDamaged) != tt.damage {
				t.Errorf("%v: is ErrDamaged: %t", err, !tt.damage)
			}
		})
	}
}

// TestSpoiledPagesAreSeen overwrites one page after the other, and flips bits of
// what holds a page together: each is refused, or nothing is missing.
func TestSpoiledPagesAreSeen(t *testing.T) {
	const entries = 300
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	storeRange(t, s, 1, entries)
	if err := s.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	path := filepath.Join(dir, logFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	refused := 0
	try := func(what string, bad []byte) {
		write(t, path, string(bad))
		s, err := Open(dir, logx.Discard())
		if err != nil {
			wantDamage(t, err, path)
			refused++
			return
		}
		defer s.Close()
		for i := uint64(1); i <= entries; i++ {
			if err := s.GetLog(i, new(raft.Log)); errors.Is(err, ErrDamaged) {
				refused++
				return
			} else if err != nil {
				t.Fatalf("%s: entry %d: %v", what, i, err)
			}
		}
		if last, err := s.LastIndex(); last != entries || err != nil {
			t.Fatalf("%s: the log ends at %d, %v", what, last, err)
		}
	}
	for at := 0; at+page <= len(good); at += page {
		for what, with := range map[string]byte{"zeroed": 0, "garbled": 0xa5} {
			bad := bytes.Clone(good)
			copy(bad[at:], bytes.Repeat([]byte{with}, page))
			try(fmt.Sprintf("page %d %s", at/page, what), bad)
		}
		for bit := 0; bit < 48*8; bit += 7 { // the header and the first elements
			bad := bytes.Clone(good)
			bad[at+bit/8] ^= 1 << (bit % 8)
			try(fmt.Sprintf("page %d, bit %d", at/page, bit), bad)
		}
	}
	if refused < 100 {
		t.Errorf("only %d were refused", refused)
	}
}

func TestLockedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	defer s.Close()
	other, err := Open(dir, logx.Discard())
	if err == nil {
		other.Close()
		t.Fatal("two at once")
	}
	if !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

// TestFirstStartCutOff: a log without a version file and without content is
// what a crash during the first start leaves.
func TestFirstStartCutOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	open(t, dir).Close()
	remove(t, filepath.Join(dir, versionFile))
	open(t, dir).Close()
	remove(t, filepath.Join(dir, versionFile))
	truncate(t, filepath.Join(dir, logFile), 0)
	open(t, dir).Close()
}

func sameEntry(a, b raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && a.AppendedAt.Equal(b.AppendedAt) &&
		bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Extensions, b.Extensions)
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

// raw changes a bucket behind the store's back.
func raw(t *testing.T, dir, bucket string, change func(*bbolt.Bucket)) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, logFile), 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { change(tx.Bucket([]byte(bucket))); return nil }); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, b *bbolt.Bucket, key []byte, bit int) {
	t.Helper()
	bad := bytes.Clone(b.Get(key))
	bit %= len(bad) * 8
	bad[bit/8] ^= 1 << (bit % 8)
	put(t, b, key, bad)
}

func put(t *testing.T, b *bbolt.Bucket, key, val []byte) {
	t.Helper()
	if err := b.Put(key, val); err != nil {
		t.Fatal(err)
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
