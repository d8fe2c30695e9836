package raftlog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/logx"
)

func snapshots(t *testing.T, dir string) *Snapshots {
	t.Helper()
	s, err := OpenSnapshots(dir, nil, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// applyBatch makes a snapshot and gives its directory.
func take(t *testing.T, s *Snapshots, index uint64, content string) string {
	t.Helper()
	conf := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "10.0.0.1:8300"}}}
	sink, err := s.Create(1, index, 2, conf, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sink, content); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.dir, sink.ID())
}

func TestSnapshotsComeBack(t *testing.T) {
	dir := t.TempDir()
	s := snapshots(t, dir)
	for index, content := range map[uint64]string{9: "nine", 10: "ten", 100: "hundred"} {
		take(t, s, index, content)
	}
	cut, err := s.Create(1, 200, 2, raft.Configuration{}, 1, nil) // a crash leaves it like this
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(cut, "half"); err != nil {
		t.Fatal(err)
	}
	s = snapshots(t, dir)
	metas, err := s.List()
	if err != nil || len(metas) != 2 || metas[0].Index != 100 || metas[1].Index != 10 {
		t.Fatalf("%+v, %v", metas, err)
	}
	if dirs, _ := os.ReadDir(s.dir); len(dirs) != 2 {
		t.Errorf("%d directories, want the two newest only", len(dirs))
	}
	meta, source, err := s.Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	text, err := io.ReadAll(source)
	if string(text) != "hundred" || err != nil || meta.Size != 7 || meta.Term != 2 || len(meta.Configuration.Servers) != 1 {
		t.Errorf("%q, %v, %+v", text, err, meta)
	}
}

func TestCancelledSnapshotLeavesNothing(t *testing.T) {
	s := snapshots(t, t.TempDir())
	sink, err := s.Create(1, 5, 2, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Cancel(), sink.Close()); err != nil {
		t.Error(err)
	}
	if dirs, _ := os.ReadDir(s.dir); len(dirs) != 0 {
		t.Errorf("%d directories are left", len(dirs))
	}
}

// TestEveryFlippedBitOfASnapshotIsSeen, of its content and its description, and
// never is the older one given instead.
func TestEveryFlippedBitOfASnapshotIsSeen(t *testing.T) {
	s := snapshots(t, t.TempDir())
	take(t, s, 5, "the older one")
	newest := take(t, s, 9, "the newest one")
	for _, name := range []string{stateFile, metaFile} {
		path := filepath.Join(newest, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string][]byte{"cut": good[:len(good)-1], "empty": nil, "longer": append(bytes.Clone(good), 0), "zeroed": make([]byte, len(good))}
		for bit := range len(good) * 8 {
			flipped := bytes.Clone(good)
			flipped[bit/8] ^= 1 << (bit % 8)
			bad[string(rune(bit))] = flipped
		}
		for what, data := range bad {
			write(t, path, string(data))
			wantDamage(t, newestErr(s), path)
			if t.Failed() {
				t.Fatalf("%s: %q", name, what)
			}
		}
		remove(t, path)
		wantDamage(t, newestErr(s), path)
		write(t, path, string(good))
	}
	if err := newestErr(s); err != nil {
		t.Errorf("the good ones again: %v", err)
	}
}

// newestErr reads the newest snapshot, as a start does.
func newestErr(s *Snapshots) error {
	metas, err := s.List()
	if err != nil {
		return err
	}
	_, source, err := s.Open(metas[0].ID)
	if err != nil {
		return err
	}
	return source.Close()
}

func TestNoRoomForASnapshot(t *testing.T) {
	s, err := OpenSnapshots(t.TempDir(), func() error { return ErrFull }, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(1, 5, 2, raft.Configuration{}, 1, nil); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}
