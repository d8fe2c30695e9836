package server

import (
	"context"
	"errors"
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

// Propose applies a command and returns its result; an error among the results
// is returned as the error. Only a leader can. The error is api.ErrNoLeader if
// the command was not proposed, and wraps api.ErrUnknownWrite if it may have been.
func (s *Server) Propose(ctx context.Context, cmd state.Command) (any, error) {
	return s.propose(ctx, cmd, false)
}

// proposeOwn is Propose for the leader's duties, which go on when the disk is too full for
// the writes of users.
func (s *Server) proposeOwn(ctx context.Context, cmd state.Command) (any, error) {
	return s.propose(ctx, cmd, true)
}

func (s *Server) propose(ctx context.Context, cmd state.Command, own bool) (any, error) {
	level := s.writeLevel()
	data, err := state.Encode(cmd, time.Now(), level)
	if err != nil {
		return nil, err
	}
	key, groups := state.GroupKey(cmd)
	result, err := s.node.Propose(ctx, raftnode.Command{
		Data: data, Groups: groups && level >= state.LevelGroups, Key: key, Own: own,
	})
	if err != nil {
		return nil, mapRaftError(err)
	}
	if err, ok := result.(error); ok {
		return nil, err
	}
	return result, nil
}

// mapRaftError gives api.ErrNoLeader only for what was surely not proposed: an entry
// whose outcome nobody knows may be so because raft has ended meanwhile.
func mapRaftError(err error) error {
	switch {
	case errors.Is(err, api.ErrUnknownWrite):
		return err
	case errors.Is(err, api.ErrNoLeader), errors.Is(err, raftnode.ErrNotRunning):
		return api.ErrNoLeader
	}
	return err
}

// AwaitLeader waits until a leader is known, for the hold timeout at most. If it is this
// server, AwaitLeader also waits until it is ready: everything that was committed before
// is applied, and its own node is registered.
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

// Leads says whether this server leads and is ready to answer: whether AwaitLeader
// would name it at once.
func (s *Server) Leads() bool { return s.isReady() }

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

// isReady says whether this server leads in the term in which it has done its barrier.
// Raft's callback comes later than the end of a leadership.
func (s *Server) isReady() bool {
	t := s.ready.Load()
	return t != nil && t.ctx.Err() == nil && s.node.LeadsIn(t.term)
}

// await waits until ok returns true, for the hold timeout at most. It calls ok again at
// every change.
func (s *Server) await(ctx context.Context, ok func() bool) error {
	next := s.changed.Changed()
	if ok() {
		return nil
	}
	hold := time.NewTimer(s.cfg.HoldTimeout)
	defer hold.Stop()
	for {
		select {
		case <-next:
		case <-hold.C:
			return api.ErrNoLeader
		case <-ctx.Done():
			return ctx.Err()
		}
		next = s.changed.Changed()
		if ok() {
			return nil
		}
	}
}

// AwaitStale waits, for the hold timeout at most, until this server may answer stale reads:
// until everything is applied that was committed before it stopped. A server that starts
// without data first applies what the leader has at that time. From then on AwaitStale
// returns at once.
func (s *Server) AwaitStale(ctx context.Context) error {
	if s.caughtUp.Load() {
		return nil
	}
	return s.await(ctx, s.caughtUp.Load)
}

// How watchCatchUp waits: an entry counts as applied a moment after its state is
// published, and a leader may not answer at first.
const (
	recheckApplied = 20 * time.Millisecond
	leaderTimeout  = time.Second
	leaderRetry    = 100 * time.Millisecond
)

// watchCatchUp returns when this server may answer stale reads: at once if it has replayed
// what was committed before the stop; without data, when it holds what the leader held
// when it was asked.
func (s *Server) watchCatchUp(ctx context.Context) {
	if s.node.CommitAtStart() == 0 {
		target, ok := s.leaderApplied(ctx)
		if !ok {
			return
		}
		for s.node.AppliedIndex() < target {
			if !waitFor(ctx, s.changed.Changed(), recheckApplied) {
				return
			}
		}
	}
	s.caughtUp.Store(true)
	s.changed.Notify()
}

// leaderApplied asks the leader for its applied index, as soon as there is a leader. It
// returns false if ctx ended.
func (s *Server) leaderApplied(ctx context.Context) (uint64, bool) {
	for {
		next, delay := s.changed.Changed(), time.Duration(-1)
		l := s.leader()
		switch {
		case l.Self && s.isReady():
			return s.node.AppliedIndex(), true
		case l.ID != "" && !l.Self:
			asking, cancel := context.WithTimeout(ctx, leaderTimeout)
			stats, err := s.statsOf(asking, l.ID, l.Addr)
			cancel()
			if err == nil && stats.Applied > 0 {
				return stats.Applied, true
			}
			delay = leaderRetry
		}
		if !waitFor(ctx, next, delay) {
			return 0, false
		}
	}
}

// VerifyLeader returns nil if this server led at a moment after the call began,
// confirmed by a majority, and its state holds everything that had been
// committed by then. For ?consistent reads.
func (s *Server) VerifyLeader(ctx context.Context) error {
	if err := s.node.VerifyLeader(ctx); err != nil {
		return mapRaftError(err)
	}
	if !s.isReady() {
		return api.ErrNotConsistent
	}
	return nil
}
