package raftnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
	"github.com/muster-dev/muster/pkg/logx"
)

// TestSnapshots: one is restored at a restart, with the entries after it, and is
// sent to a server that is new.
func TestSnapshots(t *testing.T) {
	c := newCluster(t)
	a := c.start("a", t.TempDir())
	if err := a.Bootstrap(voters([]*member{a})); err != nil {
		t.Fatal(err)
	}
	c.leader([]*member{a})
	var want []string
	write := func(n int) {
		for range n {
			want = append(want, fmt.Sprint("line ", len(want)))
			c.write([]*member{a}, want[len(want)-1])
		}
	}
	write(20)
	if err := takeSnapshot(a.Node); err != nil {
		t.Fatal(err)
	}
	if err := takeSnapshot(a.Node); err != nil {
		t.Errorf("a second snapshot of the same: %v", err)
	}
	write(20)
	if err := takeSnapshot(a.Node); err != nil {
		t.Fatal(err)
	}
	write(5)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}

	a = c.start("a", a.dir)
	if n := len(a.tape.Lines()); n < 40 {
		t.Errorf("%d lines at the start, 40 are in the snapshot", n)
	}
	c.leader([]*member{a})
	c.wantLines([]*member{a}, want...)
	if _, index, err := a.Configuration(); index != 1 || err != nil {
		t.Errorf("index of the configuration after a restart from a snapshot: %d, %v", index, err)
	}

	b := c.start("b", t.TempDir()) // a has compacted what b would need
	if err := addNonvoter(a.Node, "b", b.addr); err != nil {
		t.Fatal(err)
	}
	c.wantLines([]*member{b}, want...)
	write(1)
	c.wantLines([]*member{a, b}, want...)
	if b.AppliedIndex() != a.AppliedIndex() {
		t.Errorf("applied: %d at a, %d at b", a.AppliedIndex(), b.AppliedIndex())
	}
}

// TestDamageStopsTheStart: never is a server started on less than it had.
func TestDamageStopsTheStart(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		names []string
	}{
		{"an entry", func(t *testing.T, dir string) {
			flip(t, dir, "log-00000001", "line 39")
		}, []string{"log-00000001", "checksum mismatch"}},
		{"a missing entry", func(t *testing.T, dir string) {
			log, err := raftlog.Open(filepath.Join(dir, "raft"), logx.Discard())
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(log.DeleteRange(1, 42), log.Close()); err != nil {
				t.Fatal(err)
			}
		}, []string{"it has a hole", "is missing"}},
		{"the term", func(t *testing.T, dir string) { flip(t, dir, "votes", "CurrentTerm") }, []string{"votes", "damaged"}},
		{"the vote", func(t *testing.T, dir string) { flip(t, dir, "votes", "LastVoteCand") }, []string{"votes", "damaged"}},
		{"the newest snapshot", func(t *testing.T, dir string) { flipFile(t, newestSnapshot(t, dir), "state.bin") }, []string{"state.bin", "damaged"}},
		{"its description", func(t *testing.T, dir string) { flipFile(t, newestSnapshot(t, dir), "meta.json") }, []string{"meta.json", "damaged"}},
		{"the whole log", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "raft", "log-00000001")); err != nil {
				t.Fatal(err)
			}
		}, []string{"log-00000001", "is gone"}},
	}
	c := newCluster(t)
	origin := c.start("a", t.TempDir())
	if err := origin.Bootstrap(voters([]*member{origin})); err != nil {
		t.Fatal(err)
	}
	c.leader([]*member{origin})
	for i := range 40 {
		c.write([]*member{origin}, fmt.Sprint("line ", i))
		if i == 20 || i == 30 {
			if err := takeSnapshot(origin.Node); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := origin.stop(); err != nil {
		t.Fatal(err)
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(origin.dir)); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, dir)
			m, stopPort := c.prepare("a", dir)
			defer stopPort()
			err := m.Run(t.Context())
			if err == nil {
				t.Fatal("it started")
			}
			for _, part := range append(tt.names, dir) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v\ndoes not name %q", err, part)
				}
			}
			if started := m.Started(t.Context()); !errors.Is(started, err) {
				t.Errorf("Started: %v", started)
			}
			if len(m.tape.Lines()) > 40 {
				t.Error("more lines than were written")
			}
		})
	}
}

// TestHalfBootstrap: a server that was killed between the two writes of a
// bootstrap can be bootstrapped again.
func TestHalfBootstrap(t *testing.T) {
	dir := t.TempDir()
	log, err := raftlog.Open(filepath.Join(dir, "raft"), logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.SetUint64([]byte("CurrentTerm"), 1), log.Close()); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t)
	a := c.start("a", dir)
	if has, err := a.HasState(); has || err != nil {
		t.Errorf("it has state: %v, %v", has, err)
	}
	if err := a.Bootstrap(voters([]*member{a})); err != nil {
		t.Fatal(err)
	}
	c.leader([]*member{a})
}

func TestDirectoryInUse(t *testing.T) {
	c := newCluster(t)
	a := c.start("a", t.TempDir())
	m, stopPort := c.prepare("a", a.dir)
	defer stopPort()
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second server on one directory: %v", err)
	}
}

// TestCancelledStart: a stop during a long replay ends it.
func TestCancelledStart(t *testing.T) {
	c := newCluster(t)
	a := c.start("a", t.TempDir())
	if err := a.Bootstrap(voters([]*member{a})); err != nil {
		t.Fatal(err)
	}
	c.write([]*member{a}, "one")
	c.write([]*member{a}, "two")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	m, stopPort := c.prepare("a", a.dir)
	defer stopPort()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	again, err := raftlog.Open(filepath.Join(a.dir, "raft"), m.cfg.Logger)
	if err != nil {
		t.Fatalf("the log was not closed: %v", err)
	}
	again.Close()
}

func newestSnapshot(t *testing.T, dir string) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("snapshots: %v, %v", dirs, err)
	}
	newest, highest := "", uint64(0)
	for _, d := range dirs {
		var term, index, millis uint64
		if _, err := fmt.Sscanf(filepath.Base(d), "%d-%d-%d", &term, &index, &millis); err != nil {
			t.Fatal(err)
		}
		if index > highest {
			newest, highest = d, index
		}
	}
	return newest
}

func flipFile(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[0] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of a text in one of the log's files.
func flip(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, "raft", name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(text))
	if at < 0 {
		t.Fatalf("no %q in %s", text, path)
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
