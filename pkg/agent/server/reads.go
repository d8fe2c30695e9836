package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// Leader says who leads. Addr (ip:port of the server port) and ID are set for
// this server too.
type Leader struct {
	Self bool
	ID   string
	Addr string
}

func errNoLeader() error {
	return api.Errorf(http.StatusInternalServerError, "%s", api.ErrNoLeader)
}

// Propose applies a command and returns its result; an error among the results
// is returned as the error. Only a leader can. The error's text is
// api.ErrNoLeader when the command was surely not proposed, and begins with
// api.ErrUnknownWrite when it may have been.
func (s *Server) Propose(ctx context.Context, cmd state.Command) (any, error) {
	data, err := state.Encode(cmd)
	if err != nil {
		return nil, err
	}
	result, err := s.node.Propose(ctx, data)
	if err != nil {
		return nil, mapRaftError(err)
	}
	if err, ok := result.(error); ok {
		return nil, err
	}
	return result, nil
}

func mapRaftError(err error) error {
	if errors.Is(err, raftnode.ErrNotLeader) || errors.Is(err, raftnode.ErrNotRunning) {
		return errNoLeader()
	}
	return err
}

// AwaitLeader waits, for the hold timeout at most, until a leader is known. If
// this server is elected it also waits until it is ready: everything that was
// committed before is applied, and its own node is registered.
func (s *Server) AwaitLeader(ctx context.Context) (Leader, error) {
	var found Leader
	err := s.await(ctx, func() bool {
		found = s.leader()
		return found.ID != "" && (!found.Self || s.isReady())
	})
	if err != nil {
		return Leader{}, err
	}
	return found, nil
}

// leader is who leads as far as this server knows, ready or not.
func (s *Server) leader() Leader {
	id, addr := s.node.Leader()
	if id == "" {
		return Leader{}
	}
	if now, ok := s.addressOf(id); ok {
		addr = now
	}
	return Leader{Self: id == s.cfg.NodeID, ID: id, Addr: addr}
}

func (s *Server) isReady() bool {
	t := s.ready.Load()
	return t != nil && t.ctx.Err() == nil
}

// await waits until ok says so, for the hold timeout at most. ok is asked again
// whenever changed fires.
func (s *Server) await(ctx context.Context, ok func() bool) error {
	next := s.changed.next()
	if ok() {
		return nil
	}
	hold := time.NewTimer(s.cfg.HoldTimeout)
	defer hold.Stop()
	for {
		select {
		case <-next:
		case <-hold.C:
			return errNoLeader()
		case <-ctx.Done():
			return ctx.Err()
		}
		next = s.changed.next()
		if ok() {
			return nil
		}
	}
}

// AwaitStale waits, for the hold timeout at most, until this server may answer
// from its own state though it may lag: once everything is applied that was
// committed before it stopped. A server that starts with nothing first applies
// what it hears to be committed. From then on it returns at once.
func (s *Server) AwaitStale(ctx context.Context) error {
	if s.caughtUp.Load() {
		return nil
	}
	return s.await(ctx, s.caughtUp.Load)
}

// recheckApplied is how often to look while entries arrive: the node counts one
// as applied just after the state machine has fired for it.
const recheckApplied = 20 * time.Millisecond

// watchCatchUp returns once this server may answer stale reads.
func (s *Server) watchCatchUp(ctx context.Context) {
	for {
		next := s.changed.next()
		if s.hasCaughtUp() {
			s.caughtUp.Store(true)
			s.changed.fire()
			return
		}
		delay := time.Duration(-1)
		if s.node.AppliedIndex() > 0 {
			delay = recheckApplied
		}
		if !waitFor(ctx, next, delay) {
			return
		}
	}
}

func (s *Server) hasCaughtUp() bool {
	applied := s.node.AppliedIndex()
	if before := s.node.CommitAtStart(); before > 0 {
		return applied >= before
	}
	return s.board.Snapshot().Index() > 0 && applied >= s.node.CommitIndex()
}

// VerifyLeader returns nil if this server led at a moment after the call began,
// confirmed by a majority, and its state holds everything that had been
// committed by then. For ?consistent reads.
func (s *Server) VerifyLeader(ctx context.Context) error {
	if err := s.node.VerifyLeader(ctx); err != nil {
		return mapRaftError(err)
	}
	if !s.isReady() {
		return api.Errorf(http.StatusInternalServerError, "%s", api.ErrNotConsistent)
	}
	return nil
}
