package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"
)

// How a leader goes on after something it proposed has failed.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// newLeaderEvent tells the pool who leads, as the reference does.
const newLeaderEvent = "consul:new-leader"

// leadership is one time of leading.
type leadership struct {
	ctx context.Context // ends with it, a little later: raft's callback has to come first
	end context.CancelFunc
	// term is where this server became ready, set before it is. A leadership that was
	// lost and won again in between, before anybody was told, is of another.
	term uint64
}

// onLeader is raft's callback: one call after the other, and quick.
func (s *Server) onLeader(leads bool) {
	s.endLeadership()
	if leads {
		t := &leadership{}
		t.ctx, t.end = context.WithCancel(context.Background())
		s.current = t
		select {
		case <-s.leaderships: // nobody has taken it, and it is over
		default:
		}
		s.leaderships <- t
	}
	s.changed.fire()
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
		case t := <-s.leaderships:
			s.lead(ctx, t)
		}
	}
}

// lead returns when the tenure, or ctx, has ended.
func (s *Server) lead(ctx context.Context, t *leadership) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()

	if !s.becomeReady(ctx, t) {
		return
	}
	timers := newTTLTimers(s.cfg.SessionTTLMultiplier)
	s.timers.Store(timers)
	defer s.timers.CompareAndSwap(timers, nil)
	s.ready.Store(t)
	s.changed.fire()
	s.cfg.Logger.Info("this server leads")
	defer s.ready.CompareAndSwap(t, nil)

	var helpers sync.WaitGroup
	defer helpers.Wait()
	helpers.Go(func() {
		if err := s.cfg.Pool.UserEvent(newLeaderEvent, []byte(s.cfg.NodeName)); err != nil {
			s.cfg.Logger.Debug("could not tell the pool of the new leader", "error", err)
		}
	})
	pilot, err := s.newAutopilot(&helpers)
	if err != nil {
		return // raft has ended
	}
	helpers.Go(func() { s.expireSessions(ctx, t, timers) })
	helpers.Go(func() { s.expireJobs(ctx) })
	pilot.Start(ctx)
	defer func() {
		<-pilot.Stop()
		s.pilot.Store(nil)
	}()
	s.keepReconciled(ctx, pilot)
}

// becomeReady applies what was committed before the election and registers this
// server. It tries until it succeeds or ctx ends.
func (s *Server) becomeReady(ctx context.Context, t *leadership) bool {
	pause := firstRetry
	for {
		t.term = s.node.Term()
		err := s.establish(ctx)
		if err == nil && !s.node.LeadsIn(t.term) {
			err = errors.New("the term has changed meanwhile")
		}
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.cfg.Logger.Warn("elected, but not ready to lead yet; trying again", "error", err, "in", pause)
		if !sleep(ctx, pause) {
			return false
		}
		pause = min(2*pause, lastRetry)
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
		return errors.New("the gossip pool does not know this server")
	}
	for _, cmd := range s.planAlive(s.views.Snapshot(), self) {
		if _, err := s.proposeOwn(ctx, cmd); err != nil {
			return fmt.Errorf("register this server in the catalog: %w", err)
		}
	}
	return nil
}

// keepReconciled makes the catalog and raft's configuration follow the pool: at
// every change of it, now and then without one, and soon again after a failure.
func (s *Server) keepReconciled(ctx context.Context, pilot *autopilot.Autopilot) {
	failures := 0
	for {
		changed := s.members.next()
		wait, err := s.reconcile(ctx, pilot)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Logger.Warn("could not bring the catalog up to date with the members; trying again", "error", err)
			wait = firstRetry << min(failures, 10) // about a minute, should it be for good
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(min(wait, s.cfg.ReconcileInterval))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
