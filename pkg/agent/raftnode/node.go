// Package raftnode runs one raft server (hashicorp/raft) over a stream layer and
// a state machine that it is given.
//
// A Node promises:
//
//   - What Propose acknowledged is on the disks of a majority, and applied here.
//     Its errors say whether the entry may have been proposed: api.ErrNoLeader means
//     that it was not, so that it may be sent elsewhere; api.ErrUnknownWrite means that
//     nobody can tell.
//   - Before Started returns, the state machine holds the newest snapshot and
//     every entry that was known to be committed when the last run ended, leader
//     or no leader (CommitAtStart). All of that was verified on the way; what is
//     damaged is named and nothing is started.
//   - A leader that is stopped hands its leadership over first.
//   - A leader whose process has died is replaced at once, not after its timers
//     (failover.go); one that lives never is.
//   - Committed entries are never deleted: Run ends with ErrCommittedDeleted instead.
//   - Connections with servers of another cluster, or that have forgotten something,
//     are refused (handshake.go); a server that is told that it has forgotten something
//     stops.
//   - A single voter leads at once, without waiting for an election timer.
//
// New starts nothing. Run opens the stores, runs raft and closes everything again. A
// Node runs once. Methods that need raft return ErrNotRunning before Run has started it
// and after it has ended.
package raftnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
)

// ErrNotRunning is what methods return before raft runs, and after.
var ErrNotRunning = errors.New("raft is not running")

// FSM is the state machine. Only commands (raft.LogCommand) reach it, through
// ApplyBatch; each is applied once in the life of a Node, in order, on one
// goroutine, and so are Snapshot and Restore.
type FSM = raft.BatchingFSM

// Config says who this server is and what it works with.
type Config struct {
	ID      string // stable: it stays in the data directory while addresses change
	Address string // ip:port at which the others reach this server
	DataDir string // raft's files lie in DataDir/raft; "" keeps everything in memory

	FSM FSM
	// Group makes one entry of commands that may share one; the state machine
	// answers it with a list of their results ([]any).
	Group func(commands [][]byte) []byte
	// Identity is what this server says of itself and knows of others: connections with
	// servers of another cluster are refused. Nil: only those are refused that want
	// another id.
	Identity *clusterid.Identity
	// CheckPeer, if it is not nil, is asked first and may refuse a server.
	CheckPeer func(clusterid.Hello) error

	Listener net.Listener // accepts raft streams; Run closes it
	Dial     func(ctx context.Context, addr string) (net.Conn, error)

	// AddressOf gives a server's present address, as gossip knows it. Without an
	// answer the one from raft's configuration is dialled.
	AddressOf func(id string) (addr string, ok bool)

	// OnLeader is called on one goroutine, in order: true when this server starts
	// to lead, false when it has stopped. It may take its time; a leadership that
	// began and ended meanwhile is skipped.
	OnLeader func(leader bool)

	// AskPeer asks another voter whether the leader of that term refuses its
	// connections, too; that one answers with Node.ProbeLeader. Nil: the failover probe
	// is off, and the timers alone find a dead leader.
	AskPeer func(ctx context.Context, voter raft.Server, leader string, term uint64) (ProbeReport, error)

	Multiplier        int           // of the timers' 1000 ms; at least 1
	SnapshotThreshold uint64        // entries since the last snapshot that make the next one
	SnapshotInterval  time.Duration // how often that is looked at
	TrailingLogs      uint64        // entries that stay behind a snapshot

	Logger *slog.Logger
}

// Node is one raft server. Its methods are safe for concurrent use.
type Node struct {
	cfg   Config
	fatal *fatal

	started chan struct{} // closed when raft runs or could not be started

	mu       sync.Mutex
	ran      bool
	server   *server // nil: not running
	startErr error
}

// New makes a Node that does not run yet.
func New(cfg Config) *Node {
	if cfg.OnLeader == nil {
		cfg.OnLeader = func(bool) {}
	}
	return &Node{cfg: cfg, fatal: newFatal(), started: make(chan struct{})}
}

// Run opens the stores, brings the state machine up to date and runs raft until
// ctx ends, or until something happens that it must not go on after, which it
// returns (fatal.go). Then it hands over leadership, stops raft and closes the
// stores.
func (n *Node) Run(ctx context.Context) error {
	n.mu.Lock()
	again, cfg := n.ran, n.cfg
	n.ran = true
	n.mu.Unlock()
	if again {
		return errors.New("start raft: this node has run already")
	}
	s, err := start(ctx, cfg, n.fatal)
	if err != nil {
		err = fmt.Errorf("start raft: %w", err)
	}
	n.mu.Lock()
	n.server, n.startErr = s, err
	n.mu.Unlock()
	close(n.started)
	if err != nil {
		return err
	}
	n.applySnapshotRules(s)

	select {
	case <-ctx.Done():
	case <-n.fatal.hit:
		n.cfg.Logger.Error("raft cannot go on: this server stops", "err", n.fatal.get())
	}
	n.mu.Lock()
	s.stopping = true // no new calls
	n.mu.Unlock()
	err = errors.Join(n.fatal.get(), s.stop())
	n.mu.Lock()
	n.server, n.startErr = nil, ErrNotRunning
	n.mu.Unlock()
	return err
}

// Started waits until raft runs. An error says why it does not.
func (n *Node) Started(ctx context.Context) error {
	select {
	case <-n.started:
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.startErr
	case <-ctx.Done():
		return fmt.Errorf("wait for raft to start: %w", context.Cause(ctx))
	}
}

// enter begins a call, for whose end (done) the stop waits.
func (n *Node) enter() (s *server, done func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil || n.server.stopping {
		return nil, nil, ErrNotRunning
	}
	n.server.calls.Add(1)
	return n.server, n.server.calls.Done, nil
}

// current gives the server for a look at raft's variables, nil if it does not run.
func (n *Node) current() *server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server
}

// Leader is who leads, as far as this server knows; "" for nobody.
func (n *Node) Leader() (id, addr string) {
	s := n.current()
	if s == nil {
		return "", ""
	}
	raftAddr, raftID := s.raft.LeaderWithID()
	return string(raftID), string(raftAddr)
}

// IsLeader says whether this server believes that it leads. VerifyLeader proves it.
func (n *Node) IsLeader() bool {
	s := n.current()
	return s != nil && s.raft.State() == raft.Leader
}

// Term is raft's current term, 0 while it does not run.
func (n *Node) Term() uint64 {
	if s := n.current(); s != nil {
		return s.raft.CurrentTerm()
	}
	return 0
}

// LeadsIn says whether this server believes that it leads in that term. Terms only
// rise, so a leader now whose term, read afterwards, is still that one leads in it.
func (n *Node) LeadsIn(term uint64) bool { return n.IsLeader() && n.Term() == term }

// AppliedIndex is the newest entry that the state machine holds. Raft's own
// entries do not count.
func (n *Node) AppliedIndex() uint64 {
	if s := n.current(); s != nil {
		return s.fsm.Applied()
	}
	return 0
}

// AwaitApplied waits until the state machine holds an entry.
func (n *Node) AwaitApplied(ctx context.Context, index uint64) error {
	s, done, err := n.enter()
	if err != nil {
		return err
	}
	defer done()
	return s.fsm.await(ctx, index, s.done)
}

// LastIndex is the newest entry here, committed or not.
func (n *Node) LastIndex() uint64 {
	if s := n.current(); s != nil {
		return s.raft.LastIndex()
	}
	return 0
}

// CommitAtStart is the commit index that was stored before this run. It was
// applied before Started returned.
func (n *Node) CommitAtStart() uint64 {
	if s := n.current(); s != nil {
		return s.commitAtStart
	}
	return 0
}

// LastContact is the time since a leader was last heard: 0 at the leader itself,
// negative if there never was one.
func (n *Node) LastContact() time.Duration {
	s := n.current()
	if s == nil {
		return -1
	}
	if s.raft.State() == raft.Leader {
		return 0
	}
	last := s.raft.LastContact()
	if last.IsZero() {
		return -1
	}
	return time.Since(last)
}

// Stats are raft's own statistics, as text.
func (n *Node) Stats() map[string]string {
	s := n.current()
	if s == nil {
		return map[string]string{}
	}
	stats := s.raft.Stats()
	stats["latest_configuration_index"] = fmt.Sprint(s.fsm.ConfigIndex()) // raft's is always 0
	return stats
}

// Raft is raft itself, for raft-autopilot and observers.
func (n *Node) Raft() (*raft.Raft, error) {
	s, done, err := n.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	return s.raft, nil
}
