package raftnode

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

// refusing is a state machine that cannot apply one command.
type refusing struct {
	*tape
	what string
	fail func(error)
}

var errRefused = errors.New("entry written by a newer version: upgrade this server")

func (f *refusing) ApplyBatch(logs []*raft.Log) []any {
	for _, log := range logs {
		if string(log.Data) == f.what {
			f.fail(errRefused)
			return nil
		}
	}
	return f.tape.ApplyBatch(logs)
}

// TestFatalStop: a state machine that cannot go on ends its own server, in order
// and with the reason; the entry counts as not applied, the others go on, and a
// start on the same data directory ends the same way.
func TestFatalStop(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	c.leader(all)
	c.write(all, "one")

	c.spoil = "two"
	dir := t.TempDir()
	m, ended := c.startFailing("d", dir)
	lead := c.leader(all)
	if err := addNonvoter(lead.Node, "d", m.addr); err != nil {
		t.Fatal(err)
	}
	until(t, "d has the first line", func() bool { return slices.Contains(m.tape.Lines(), "one") })
	c.write(all, "two")
	c.write(all, "three")
	if err := <-ended; !errors.Is(err, errRefused) {
		t.Errorf("Run returned %v", err)
	}
	if got := m.tape.Lines(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("after the stop the state holds %q", got)
	}
	if _, err := m.Propose(t.Context(), Command{Data: []byte("x")}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a call after the stop: %v", err)
	}
	c.wantLines(all, "one", "two", "three")

	again, ended := c.startFailing("d", dir)
	err := <-ended
	if !errors.Is(err, errRefused) || slices.Contains(again.tape.Lines(), "three") {
		t.Errorf("the next start: %v, with %q", err, again.tape.Lines())
	}
}

// startFailing starts a server whose state machine cannot apply c.spoil.
func (c *cluster) startFailing(id, dir string) (*member, <-chan error) {
	c.t.Helper()
	m, stopPort := c.prepare(id, dir)
	ctx, cancel := context.WithCancel(context.Background())
	run, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(run)
		ended <- m.Run(ctx)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-run
		_ = stopPort()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[id] = m
	return m, ended
}

// TestTermThatCannotBeStored ends the server in order, by the name of the file; raft
// itself would panic.
func TestTermThatCannotBeStored(t *testing.T) {
	c := newCluster(t)
	all := c.found(2)
	lead := c.leader(all)
	m, ended := c.startFailing("d", t.TempDir())
	if err := addVoter(lead.Node, "d", m.addr); err != nil {
		t.Fatal(err)
	}
	c.write(all, "one")
	c.wantLines([]*member{m}, "one")
	_ = m.current().log.Close() // no write goes through any more
	elect(t, all[slices.Index(all, lead)^1])
	err := <-ended
	if err == nil || !strings.Contains(err.Error(), "votes") || !strings.Contains(err.Error(), "cannot store its vote") {
		t.Errorf("Run returned %v", err)
	}
	c.write(all, "two")
}

// TestSecondVoteStopsTheServer: whoever asks for it, nothing after the call is done.
func TestSecondVoteStopsTheServer(t *testing.T) {
	for what, second := range map[string]func(b voteStore){
		"a lower term":       func(b voteStore) { _ = b.SetUint64([]byte("CurrentTerm"), 6) },
		"a second candidate": func(b voteStore) { _ = b.Set([]byte("LastVoteCand"), []byte("y")) },
	} {
		t.Run(what, func(t *testing.T) {
			b := voteStore{raftlog.Memory(), newFatal()}
			if err := errors.Join(b.SetUint64([]byte("CurrentTerm"), 7), b.SetUint64([]byte("LastVoteTerm"), 7), b.Set([]byte("LastVoteCand"), []byte("x"))); err != nil {
				t.Fatal(err)
			}
			var raft sync.WaitGroup
			raft.Go(func() {
				second(b)
				t.Error("raft goes on")
			})
			raft.Wait()
			if err := b.fatal.get(); !errors.Is(err, raftlog.ErrVote) || !strings.Contains(err.Error(), "votes") {
				t.Errorf("the reason: %v", err)
			}
		})
	}
}
