package local

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/muster-dev/muster/pkg/agent/check"
	"github.com/muster-dev/muster/pkg/api"
)

// checkEntry is one check: its definition, its result and its runner.
//
//	         putCheck             Run, or at once while it runs
//	(none) ------------> waiting ------------------------------> running
//	                        ^                                    |    |
//	                        |      another definition            |    | dropCheck,
//	                        +------------------------------------+    | end of Run
//	                                                                  v
//	                                                               stopped
//
// A runner that was replaced or stopped may still report once. report sees that it is no
// longer the runner of the entry, and drops the result.
type checkEntry struct {
	mark
	def           *api.CheckDefinition
	health        api.HealthCheck
	fromConfig    bool
	inService     bool
	maintenance   bool
	criticalSince time.Time
	keptUntil     time.Time   // when the durably saved state of a TTL check expires
	runner        *runner     // nil for maintenance
	deferred      *time.Timer // pushes a change of the output alone
}

type runner struct {
	checker check.Checker
	cancel  context.CancelFunc // nil until it runs
}

// ttl is the check's runner if it is a TTL check, else nil.
func (e *checkEntry) ttl() *check.TTL {
	if e.runner == nil {
		return nil
	}
	t, _ := e.runner.checker.(*check.TTL)
	return t
}

// newCheck makes the entry of a new check. Called with mu held.
func (s *State) newCheck(p *preparedCheck, health api.HealthCheck) *checkEntry {
	if p.state != nil {
		health.Status, health.Output = p.state.Status, p.state.Output
	}
	e := &checkEntry{
		def: p.def, health: health, fromConfig: p.fromConfig, inService: p.inService,
		maintenance: p.maintenance, criticalSince: time.Now(),
	}
	e.touch()
	s.setRunner(e)
	if t := e.ttl(); t != nil && p.state != nil {
		t.Resume(p.state.Output, p.state.Expires)
	}
	return e
}

// setRunner makes a runner for the present definition of an entry, and starts it if Run
// runs. Called with mu held.
func (s *State) setRunner(e *checkEntry) {
	if e.maintenance {
		return
	}
	r := &runner{}
	r.checker = check.New(e.def, check.Options{
		ID: e.def.ID, Logger: s.log, OutputMax: s.cfg.CheckOutputMaxSize, Aliased: aliased{s},
	}, func(status, output string) { s.report(e, r, status, output) })
	e.runner = r
	s.startCheck(e)
}

// startCheck starts the runner of an entry, if Run runs and the runner does not. Called
// with mu held.
func (s *State) startCheck(e *checkEntry) {
	if s.running == nil || e.runner == nil || e.runner.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.running)
	e.runner.cancel = cancel
	id, checker := e.def.ID, e.runner.checker
	s.wg.Go(func() {
		if err := checker.Run(ctx); err != nil {
			s.log.Error("check ended", "check", id, "error", err)
		}
	})
}

// stopCheck stops the runner of an entry without waiting for its end. Called with mu held.
func (s *State) stopCheck(e *checkEntry) {
	if e.runner != nil && e.runner.cancel != nil {
		e.runner.cancel()
	}
	e.runner = nil
}

func (e *checkEntry) cancelDeferred() {
	if e.deferred != nil {
		e.deferred.Stop()
		e.deferred = nil
	}
}

// report receives the result of a runner.
func (s *State) report(e *checkEntry, r *runner, status, output string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.runner != r {
		return // replaced or stopped meanwhile
	}
	if t, ok := r.checker.(*check.TTL); ok && !t.Expired() {
		return // a client set it meanwhile
	}
	s.setHealth(e, status, output)
}

// setHealth changes the status and output of a check. Every result of a runner and every
// update by a client comes here. Called with mu held.
func (s *State) setHealth(e *checkEntry, status, output string) {
	output = asStored(output)
	if s.discard {
		output = ""
	}
	if e.health.Status == status && e.health.Output == output {
		return
	}
	turned := e.health.Status != status
	if turned {
		s.log.Info("check changed", "check", e.def.ID, "service", e.health.ServiceID,
			"from", e.health.Status, "to", status)
		if status == api.HealthCritical {
			e.criticalSince = time.Now()
		}
	}
	e.health.Status, e.health.Output = status, output
	s.notify()
	if turned || s.cfg.CheckUpdateInterval <= 0 {
		e.cancelDeferred()
		e.touch()
		s.wakeSync()
		return
	}
	s.deferPush(e)
}

// deferPush schedules one push for this change of the output and for those that follow
// before it. Called with mu held.
func (s *State) deferPush(e *checkEntry) {
	if e.deferred != nil {
		return
	}
	wait := s.cfg.CheckUpdateInterval/2 + rand.N(s.cfg.CheckUpdateInterval)
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.deferred != timer {
			return
		}
		e.deferred = nil
		e.touch()
		s.wakeSync()
	})
	e.deferred = timer
}
