package raftnode

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

// proofRetry is how long a proof waits for answers before it has raft send new
// heartbeats.
const proofRetry = 20 * time.Millisecond

// prove makes sure that this server led at a moment after the call: that a majority
// of the voters acknowledged, in the term in which it leads, something that was
// sent after the call (acks.go). Raft's own VerifyLeader does not: it counts answers to
// messages that were sent before, and those of servers without a vote. It is called to
// make raft send heartbeats at once, and to learn of a lost leadership.
func (s *server) prove() (proof struct{}, err error) {
	term, leads := s.leads()
	if !leads {
		return proof, api.ErrNoLeader
	}
	began, after := time.Now(), s.acks.sent.Load()
	limit := time.NewTimer(2 * s.timer()) // by then raft itself has stepped down
	defer limit.Stop()
	var heartbeats <-chan error // the result of those that raft sent last
	for {
		next := s.acks.answered.Changed()
		if s.acks.proves(term, after) {
			if now, leads := s.leads(); !leads || now != term {
				return proof, api.ErrNoLeader // the voters may be those of a later configuration
			}
			s.acks.lease.renew(began)
			return proof, nil
		}
		if heartbeats == nil {
			heartbeats = s.sendHeartbeats()
		}
		select {
		case <-next:
		case err := <-heartbeats:
			if err != nil {
				return proof, fmt.Errorf("%w: %w", api.ErrNoLeader, err)
			}
			heartbeats = nil
			select {
			case <-next:
			case <-time.After(proofRetry):
			case <-s.done:
			}
		case <-limit.C:
			return proof, fmt.Errorf("%w: no majority of the voters has confirmed it within %v", api.ErrNoLeader, 2*s.timer())
		case <-s.done:
			return proof, fmt.Errorf("%w: %w", api.ErrNoLeader, ErrNotRunning)
		}
	}
}

func (s *server) sendHeartbeats() <-chan error {
	result := make(chan error, 1)
	go func() { result <- s.raft.VerifyLeader().Error() }()
	return result
}

// leads gives the term in which this server leads. Terms only rise, so if the term is the
// same before and after, the state that was read in between belongs to it.
func (s *server) leads() (term uint64, leads bool) {
	term = s.raft.CurrentTerm()
	leads = s.raft.State() == raft.Leader
	return term, leads && s.raft.CurrentTerm() == term
}

// votersOf are the voters of the newest configuration.
func votersOf(r *raft.Raft) []raft.ServerID {
	if r == nil {
		return nil
	}
	var ids []raft.ServerID
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if server.Suffrage == raft.Voter {
			ids = append(ids, server.ID)
		}
	}
	return ids
}

// VerifyLeader makes sure, by asking a majority, that this server led at some
// moment after the call, and then waits until the state machine holds all that
// was committed at the call: a read after it is linearizable, at a leader that
// has done its Barrier. Calls that arrive together share one round of messages.
func (n *Node) VerifyLeader(ctx context.Context) error {
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	defer done()
	if s.raft.State() != raft.Leader {
		return api.ErrNoLeader
	}
	commit := s.raft.CommitIndex()
	if err := s.proveShared(ctx); err != nil {
		return err
	}
	return s.awaitApplied(ctx, commit)
}

// AwaitCommitted makes sure that a read of the state machine, at a leader that has done
// its Barrier, lacks nothing that was acknowledged more than the lease ago (1000 ms
// times the multiplier), and nothing that this server knows to be committed at the call:
// a follower may have applied, and shown, an entry that its leader has not applied yet.
// If the lease has ended, because this process was paused or the network is slow, it
// takes a proof of leadership first.
func (n *Node) AwaitCommitted(ctx context.Context) error {
	if s := n.current(); s != nil && s.acks.lease.holds() && s.raft.CommitIndex() <= s.appliedCommit.Load() {
		return nil
	}
	s, done, err := n.enter()
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	defer done()
	if !s.acks.lease.holds() {
		if err := s.proveShared(ctx); err != nil {
			return err
		}
	}
	return s.awaitApplied(ctx, s.raft.CommitIndex())
}

// proveShared shares one proof among all callers that need one now.
func (s *server) proveShared(ctx context.Context) error {
	if _, err := s.proofs.Do(ctx); err != nil {
		return fmt.Errorf("verify the leadership: %w", err)
	}
	return nil
}
