package raftnode

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/logx"
)

// stranger is a server that has founded a cluster of its own, with newer terms than
// those of others can be.
func (c *cluster) stranger(id, cluster string) *member {
	c.t.Helper()
	dir := c.t.TempDir()
	m := c.start(id, dir)
	if c.named {
		if err := m.cfg.Identity.Join(cluster); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := m.Bootstrap(voters([]*member{m})); err != nil {
		c.t.Fatal(err)
	}
	for range 5 {
		c.leader([]*member{m})
		if err := m.stop(); err != nil {
			c.t.Fatal(err)
		}
		m = c.start(id, dir)
	}
	for i := range 3 {
		c.write([]*member{m}, fmt.Sprint("theirs ", i))
	}
	return m
}

// invade makes a stranger's cluster take a server for one of its own.
func invade(t *testing.T, stranger, victim *member) {
	t.Helper()
	if err := addNonvoter(stranger.Node, victim.id, victim.addr); err != nil {
		t.Fatal(err)
	}
}

// awaitEnd waits until a server has ended by itself.
func awaitEnd(t *testing.T, m *member) {
	t.Helper()
	until(t, m.id+" has ended", func() bool {
		select {
		case <-m.ended:
			return true
		default:
			return false
		}
	})
}

func ours(c *cluster, all []*member) (lines []string) {
	for i := range 10 {
		lines = append(lines, fmt.Sprint("ours ", i))
		c.write(all, lines[i])
	}
	c.wantLines(all, lines...)
	return lines
}

// TestCommittedEntriesAreNotDeleted: a leader with another history, and nothing that
// keeps it away. The server stops and keeps what it has.
func TestCommittedEntriesAreNotDeleted(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	c.leader(all)
	lines := ours(c, all)
	victim := all[1]
	for _, m := range []*member{all[0], all[2]} {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
	stranger := c.stranger("x", "")
	invade(t, stranger, victim)
	awaitEnd(t, victim)
	err := victim.stop()
	if !errors.Is(err, ErrCommittedDeleted) {
		t.Fatalf("it ended with %v", err)
	}
	for _, part := range []string{"committed up to", "keeps entries", "-repair"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
	if err := stranger.stop(); err != nil {
		t.Fatal(err)
	}
	again := c.start(victim.id, victim.dir)
	if got := again.tape.Lines(); !slices.Equal(got, lines) {
		t.Errorf("it holds %q, want %q", got, lines)
	}
}

// TestLogGuard: what may go is what a snapshot holds, and what is not committed.
func TestLogGuard(t *testing.T) {
	c := newCluster(t)
	all := c.found(1)
	c.leader(all)
	ours(c, all)
	s := all[0].current()
	var failed error
	log := &logStore{Store: s.log, snaps: s.snaps, raft: new(atomic.Pointer[raft.Raft]), applied: s.fsm.Applied, fail: func(err error) { failed = err }}
	commit := max(s.fsm.Applied(), s.raft.CommitIndex())
	for _, tt := range []struct {
		first, last uint64
		refused     bool
	}{
		{commit, commit, true}, {2, 5, true}, {1, commit + 9, true}, {commit + 1, commit + 5, false}, {commit + 1, commit, false},
	} {
		failed = nil
		if err := log.refuseCommitted(tt.first, tt.last); (err != nil) != tt.refused || errors.Is(failed, ErrCommittedDeleted) != tt.refused {
			t.Errorf("%d to %d of %d committed: %v, fail(%v)", tt.first, tt.last, commit, err, failed)
		}
	}
	if err := takeSnapshot(all[0].Node); err != nil {
		t.Fatal(err)
	}
	metas, err := s.snaps.List()
	if err != nil {
		t.Fatal(err)
	}
	if err := log.refuseCommitted(1, metas[0].Index); err != nil {
		t.Errorf("what a snapshot holds may not go: %v", err)
	}
}

// TestStrangersDoNotExchangeEntries: a cluster id keeps a leader away that would make
// the victim stop otherwise (TestCommittedEntriesAreNotDeleted).
func TestStrangersDoNotExchangeEntries(t *testing.T) {
	c := newCluster(t)
	c.named = true
	all := foundNamed(c, "ours")
	c.leader(all)
	lines := ours(c, all)
	stranger := c.stranger("x", "theirs")
	invade(t, stranger, all[1])
	const refused = "refused to talk raft with another server"
	until(t, "both say so", func() bool {
		return strings.Contains(all[1].said.String(), refused) &&
			strings.Contains(stranger.said.String(), "another server refuses this one")
	})
	c.write(all, "after")
	c.wantLines(all, append(lines, "after")...)
	if n := strings.Count(all[1].said.String(), refused); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	for _, part := range []string{"theirs", "ours", "-retry-join"} {
		if !strings.Contains(all[1].said.String(), part) {
			t.Errorf("nothing is said of %s", part)
		}
	}
	if got := stranger.tape.Lines(); len(got) != 3 {
		t.Errorf("the stranger holds %q", got)
	}
}

func foundNamed(c *cluster, name string) (all []*member) {
	c.t.Helper()
	for _, id := range []string{"a", "b", "c"} {
		m := c.start(id, c.t.TempDir())
		if err := m.cfg.Identity.Join(name); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, m)
	}
	for _, m := range all {
		if err := m.Bootstrap(voters(all)); err != nil {
			c.t.Fatal(err)
		}
	}
	return all
}

// TestNewServerTakesTheId of the first leader that connects to it.
func TestNewServerTakesTheId(t *testing.T) {
	c := newCluster(t)
	c.named = true
	all := foundNamed(c, "ours")
	leader := c.leader(all)
	lines := ours(c, all)
	d := c.start("d", t.TempDir())
	if err := addNonvoter(leader.Node, "d", d.addr); err != nil {
		t.Fatal(err)
	}
	c.wantLines([]*member{d}, lines...)
	if err := d.cfg.Identity.Confirm(true); err != nil {
		t.Fatal(err)
	}
	if got := d.cfg.Identity.Confirmed(); got != "ours" {
		t.Errorf("it belongs to %q", got)
	}
}

// TestServerPutBackIsRefused: its disk is as it was before an acknowledged entry, and
// with one of the others it could be a majority that lacks that entry.
func TestServerPutBackIsRefused(t *testing.T) {
	c := newCluster(t)
	c.named = true
	all := foundNamed(c, "ours")
	c.leader(all)
	ours(c, all)
	victim := all[1]
	if err := victim.stop(); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(victim.dir)); err != nil {
		t.Fatal(err)
	}
	all[1] = c.start(victim.id, victim.dir)
	until(t, "the others have met its new start", func() bool {
		h := all[1].cfg.Identity.Hello("")
		met := func(m *member) bool { return m.cfg.Identity.Knows(h.ID, h.Start, h.Run()) }
		return met(all[0]) || met(all[2])
	})
	c.write(all, "acknowledged")
	if err := all[1].stop(); err != nil {
		t.Fatal(err)
	}
	// Restarts do not make a past that others have not seen.
	for range 3 {
		if _, err := clusterid.Open(backup, victim.id); err != nil {
			t.Fatal(err)
		}
	}
	back := c.start(victim.id, backup)
	awaitEnd(t, back)
	err := back.stop()
	if !errors.Is(err, clusterid.ErrOutdated) || !strings.Contains(err.Error(), "-repair") {
		t.Errorf("it ended with %v", err)
	}
	if _, err := clusterid.Open(backup, victim.id); !errors.Is(err, clusterid.ErrOutdated) {
		t.Errorf("the next start: %v", err)
	}
}

// TestSilentConnectionEnds: one that was accepted and never says whom it wants.
func TestSilentConnectionEnds(t *testing.T) {
	for name, said := range map[string][]byte{"nothing": nil, "half an id": {4, 'a'}, "half a handshake": {handshakeMark, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dialled, accepted := net.Pipe()
				defer dialled.Close()
				s := newStream(Config{ID: "a", Logger: logx.Discard()}, nil)
				conn, err := s.track(accepted, s.acceptHandshake)
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() {
					_, err := conn.Read(make([]byte, 1))
					ended <- err
				}()
				if _, err := dialled.Write(said); len(said) > 0 && err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-ended:
					if err == nil {
						t.Error("something was read")
					}
				case <-time.After(2 * handshakeTimeout):
					t.Error("it is held for ever")
				}
				_ = conn.Close()
			})
		})
	}
}

// TestWrongServerAnswers: what one server acknowledges must not count as another one's.
func TestWrongServerAnswers(t *testing.T) {
	own, err := clusterid.Open("", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Join("ours"); err != nil {
		t.Fatal(err)
	}
	dialled, accepted := net.Pipe()
	defer dialled.Close()
	defer accepted.Close()
	refused := make(chan handshakeFrame, 1)
	go func() {
		_, _ = accepted.Read(make([]byte, 1))
		_, _ = readFrame(accepted)
		_ = writeFrame(accepted, nil, handshakeFrame{Hello: &clusterid.Hello{Cluster: "ours", ID: "c"}})
		f, _ := readFrame(accepted)
		refused <- f
	}()
	s := newStream(Config{ID: "a", Identity: own, Logger: logx.Discard()}, nil)
	if err := s.handshake(dialled, "b", handshakeTimeout); err == nil {
		t.Error("server c is taken for server b")
	}
	if f := <-refused; f.Refused == "" {
		t.Error("server c is not told why")
	}
}
