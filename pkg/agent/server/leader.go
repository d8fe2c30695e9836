package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/retry"
)

// newLeaderEvent tells the pool who leads, as the reference does.
const newLeaderEvent = "consul:new-leader"

// recheckTime is how long the leader trusts the wall clock, which may be set: what
// expires by it is looked at again after this time.
const recheckTime = time.Minute

// newBackoff paces what a server tries again after a failed proposal.
func newBackoff() retry.Backoff {
	return retry.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}
}

// leadership is one period in which this server leads.
type leadership struct {
	ctx context.Context // ends with it, or a little later: when raft's callback comes
	end context.CancelFunc
	// term is the one in which this server became ready. A leadership that was lost and
	// won again before the callback came has another term.
	term   uint64
	timers *ttlTimers // of sessions
}

// onLeader is raft's callback. Calls come one after the other and must be quick.
func (s *Server) onLeader(leads bool) {
	s.endLeadership()
	if leads {
		l := &leadership{timers: newTTLTimers(s.cfg.SessionTTLMultiplier)}
		l.ctx, l.end = context.WithCancel(context.Background())
		s.current = l
		select {
		case <-s.leaderships: // one that ended before its duties began
		default:
		}
		s.leaderships <- l
	}
	s.changed.Notify()
}

func (s *Server) endLeadership() {
	if s.current != nil {
		s.current.end()
		s.current = nil
	}
}

// runLeaderships does the leader's duties whenever this server leads.
func (s *Server) runLeaderships(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-s.leaderships:
			s.lead(ctx, l)
		}
	}
}

// lead does the duties of one leadership: they begin when this server is ready, and end
// with the leadership or with ctx. It returns when all of them have returned.
func (s *Server) lead(ctx context.Context, l *leadership) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()

	if !s.becomeReady(ctx, l) {
		return
	}
	s.ready.Store(l)
	defer s.ready.CompareAndSwap(l, nil)
	s.changed.Notify()
	s.cfg.Logger.Info("this server leads")

	var duties sync.WaitGroup
	defer duties.Wait()
	for _, duty := range []func(context.Context, *leadership){
		s.announceLeader, s.followSessions, s.endSessions, s.reapKeys, s.reapJobs, s.followMembers,
	} {
		duties.Go(func() { duty(ctx, l) })
	}
}

// becomeReady applies what was committed before the election and registers this
// server. It tries until it succeeds or ctx ends.
func (s *Server) becomeReady(ctx context.Context, l *leadership) bool {
	backoff := newBackoff()
	for {
		l.term = s.node.Term()
		err := s.establish(ctx)
		if err == nil && !s.node.LeadsIn(l.term) {
			err = errors.New("the term has changed meanwhile")
		}
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.cfg.Logger.Warn("elected, but not ready to lead yet; trying again", "error", err)
		if backoff.Sleep(ctx) != nil {
			return false
		}
	}
}

func (s *Server) establish(ctx context.Context) error {
	if err := s.node.Barrier(ctx); err != nil {
		return fmt.Errorf("wait until everything committed is applied: %w", err)
	}
	if err := s.cfg.Pool.AwaitUp(ctx); err != nil {
		return err
	}
	self, ok := s.selfMember()
	if !ok {
		return errNotInPool
	}
	for _, cmd := range s.planAlive(s.views.Snapshot(), self) {
		if _, err := s.proposeOwn(ctx, cmd); err != nil {
			return fmt.Errorf("register this server in the catalog: %w", err)
		}
	}
	return nil
}

func (s *Server) announceLeader(context.Context, *leadership) {
	if err := s.cfg.Pool.UserEvent(newLeaderEvent, []byte(s.cfg.NodeName)); err != nil {
		s.cfg.Logger.Debug("could not tell the pool of the new leader", "error", err)
	}
}

// followMembers makes the catalog and raft's configuration follow the pool, and lets
// autopilot look after the servers' health.
func (s *Server) followMembers(ctx context.Context, _ *leadership) {
	var removals sync.WaitGroup
	defer removals.Wait()
	pilot, err := s.newAutopilot(&removals)
	if err != nil {
		return // raft has ended
	}
	pilot.Start(ctx)
	defer func() {
		<-pilot.Stop()
		s.pilot.Store(nil)
	}()
	s.keepReconciled(ctx, pilot)
}

// keepReconciled reconciles at every change of the pool, every ReconcileInterval at
// least, and soon again after a failure.
func (s *Server) keepReconciled(ctx context.Context, pilot *autopilot.Autopilot) {
	backoff := newBackoff()
	backoff.Max = time.Minute
	for {
		changed := s.members.Changed()
		wait, err := s.reconcile(ctx, pilot)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Logger.Warn("could not bring the catalog up to date with the members; trying again", "error", err)
			wait = backoff.Next()
		} else {
			backoff.Reset()
		}
		if !waitFor(ctx, changed, min(wait, s.cfg.ReconcileInterval)) {
			return
		}
	}
}

// A dueCommand is a command that is proposed whenever time makes it due.
type dueCommand struct {
	purpose string // for the log: "could not " purpose
	// watched is what of the state the command depends on: when it changes, plan is
	// called again.
	watched func(*state.Snapshot) view.Answer
	// plan gives the command that is due now, or nil and how long to wait at most.
	// value is what was watched in snap; first says that this leadership has not
	// proposed such a command yet.
	plan func(snap *state.Snapshot, value any, first bool) (state.Command, time.Duration)
}

// proposeDue proposes what is due, until ctx ends.
func (s *Server) proposeDue(ctx context.Context, d dueCommand) {
	first, backoff := true, newBackoff()
	for ctx.Err() == nil {
		snap := s.views.Snapshot()
		now := d.watched(snap)
		cmd, wait := d.plan(snap, now.Value, first)
		if cmd == nil {
			_, _ = s.views.Read(ctx, "", d.watched, now.Meta.Index, max(wait, time.Millisecond)) // an error is ctx's
			continue
		}
		if _, err := s.proposeOwn(ctx, cmd); err == nil {
			first = false
			backoff.Reset()
		} else if ctx.Err() == nil {
			s.cfg.Logger.Warn("could not "+d.purpose+"; trying again", "error", err)
			_ = backoff.Sleep(ctx) // an error is ctx's
		}
	}
}

// WhileLeading gives a context that ends with ctx, or when this server stops leading:
// then with the cause "No cluster leader". If it does not lead, the context has
// ended already. The caller calls the function when done.
func (s *Server) WhileLeading(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	l := s.ready.Load()
	if l == nil {
		cancel(api.ErrNoLeader)
		return ctx, func() {}
	}
	stop := context.AfterFunc(l.ctx, func() { cancel(api.ErrNoLeader) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
