package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

// enqueueTimeout is how long raft's main goroutine may be too busy to accept an entry:
// its disk hangs.
const enqueueTimeout = 10 * time.Second

// Command is what Propose replicates.
type Command struct {
	Data []byte
	// Groups says that the command may share an entry with others that do, as long
	// as no two of them have the same Key; Config.Group makes it of their Data.
	Groups bool
	Key    string
	// Own marks what the cluster itself needs to go on. It is proposed even if the disk
	// is too full for other commands.
	Own bool
}

// Propose replicates one command and returns the state machine's result for it.
// Commands are applied in the order in which they came; those that come together
// share their cost (batcher.go). If ctx ends after a command was submitted, its outcome
// is unknown (api.ErrUnknownWrite). A full disk refuses it (raftlog.ErrFull) before
// anything is proposed.
func (n *Node) Propose(ctx context.Context, c Command) (any, error) {
	s, done, err := n.enter()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	defer done()
	if s.raft.State() != raft.Leader {
		return nil, api.ErrNoLeader
	}
	if ctx.Err() != nil {
		return nil, unproposed(context.Cause(ctx))
	}
	p := &proposal{Command: c, done: make(chan struct{})}
	s.batcher.add(p)
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-s.done:
		err = ErrNotRunning
	}
	if s.batcher.withdraw(p) {
		return nil, unproposed(err)
	}
	return nil, outcomeError(nil, err)
}

func unproposed(why error) error {
	return fmt.Errorf("%w: nothing was proposed: %w", api.ErrNoLeader, why)
}

// Barrier waits until everything that was proposed before it is applied here. A
// new leader calls it before it answers: from then on the state machine holds
// all that any leader before it acknowledged.
func (n *Node) Barrier(ctx context.Context) error {
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	defer done()
	f, err := await(ctx, s, func() raft.Future { return s.raft.Barrier(enqueueTimeout) })
	return outcomeError(f, err)
}

// await waits for one of raft's futures, which know no contexts.
func await[F raft.Future](ctx context.Context, s *server, begin func() F) (F, error) {
	type outcome struct {
		future F
		err    error
	}
	out := make(chan outcome, 1)
	go func() {
		f := begin()
		out <- outcome{f, f.Error()}
	}()
	var none F
	select {
	case o := <-out:
		return o.future, o.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-s.done:
		return none, ErrNotRunning
	}
}

// outcomeError says of a failed future, or of a wait for one that was given up,
// whether its entry may have been proposed.
func outcomeError(f raft.Future, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader),
		errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	case errors.Is(err, raft.ErrRaftShutdown):
		// Raft says the same before it takes an entry and after it has committed
		// one; only the latter has an index.
		if indexed, ok := f.(raft.IndexFuture); ok && indexed.Index() == 0 {
			return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
		}
	}
	return fmt.Errorf("%w: %w", api.ErrUnknownWrite, err)
}

// awaitApplied waits until the state machine holds all entries up to a commit index.
func (s *server) awaitApplied(ctx context.Context, commit uint64) error {
	index, err := s.lastForFSM(commit)
	if err != nil {
		return err
	}
	if err := s.fsm.await(ctx, index, s.done); err != nil {
		return err
	}
	for was := s.appliedCommit.Load(); was < commit && !s.appliedCommit.CompareAndSwap(was, commit); {
		was = s.appliedCommit.Load()
	}
	return nil
}

// lastForFSM is the newest entry up to index that reaches the state machine:
// raft keeps its no-ops and barriers for itself.
func (s *server) lastForFSM(index uint64) (uint64, error) {
	for ; index > s.fsm.Applied(); index-- {
		var log raft.Log
		switch err := s.log.GetLog(index, &log); {
		case errors.Is(err, raft.ErrLogNotFound): // in a snapshot
		case err != nil:
			return 0, err
		case log.Type == raft.LogCommand, log.Type == raft.LogConfiguration:
			return index, nil
		}
	}
	return 0, nil
}
