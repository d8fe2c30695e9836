package supervise

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/broadcast"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

// Bound follows this diagram.
//
//	none -- Changed --> running -- the child ends --> over, with its code
//	                    |   ^
//	Changed, after the  |   | it has ended: start
//	splay: with a       v   |
//	reload signal it   stopping -- KillTimeout --> KILL to its tree
//	is signalled, else
//
// The other methods may be called from any goroutine while Run runs. They work on
// nil, which supervises nothing.
type Bound struct {
	base
	guard  *proc.Guard   // of all the children
	change chan struct{} // capacity 1
	over   chan error    // capacity 1: how the child ended by itself
	gone   chan struct{} // closed at the end of Run
	news   chan struct{} // capacity 1: what Followed yields

	mu       sync.Mutex
	status   Status
	asked    int              // changes that we were told of
	followed int              // how many of them the child knows
	moved    broadcast.Signal // that followed has changed
}

// Status is what the child does at the moment.
type Status struct {
	Pid       int       // 0: it does not run
	Starts    int       // how often it was started
	StartedAt time.Time // the last time
	// Stopped says that a signal which ends programs was passed on to it: its end is
	// somebody's wish then.
	Stopped bool
}

// NewBound makes a Bound; it starts nothing before Run.
func NewBound(spec Spec, cfg Config) *Bound {
	s := &Bound{
		base:   newBase(spec, cfg),
		change: make(chan struct{}, 1), over: make(chan error, 1), gone: make(chan struct{}),
		news: make(chan struct{}, 1),
	}
	s.start = s.startChild
	return s
}

func (s *Bound) startChild() (child, error) {
	spec, err := s.resolve()
	if err != nil {
		return nil, err
	}
	spec.Stdin = os.Stdin
	if s.guard != nil {
		if c, err := s.guard.Start(spec); err == nil {
			return c, nil
		}
		s.release() // the guard may be what is wrong
	}
	if s.guard, err = proc.NewTerminalGuard(); err != nil {
		s.guard = nil
		return nil, err
	}
	c, err := s.guard.Start(spec)
	if err != nil {
		return nil, err // not a nil *proc.Child in an interface
	}
	return c, nil
}

// release ends the guard.
func (s *Bound) release() {
	if s.guard != nil {
		s.guard.Close()
		s.guard = nil
	}
}

// Ends yields once, when the child has ended by itself or could not be started.
func (s *Bound) Ends() <-chan error {
	if s == nil {
		return nil
	}
	return s.over
}

// Await waits for the end of a child that was started, for a tool that has nothing
// else left to do. The end of ctx is no error.
func (s *Bound) Await(ctx context.Context, started bool) error {
	if s == nil || !started {
		return nil
	}
	select {
	case err := <-s.over:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Run follows the diagram until ctx ends, which stops the child, or the child
// does.
func (s *Bound) Run(ctx context.Context) {
	defer close(s.gone)
	if !s.awaitChange(ctx) {
		return
	}
	defer s.release()
	for {
		known := s.takeChanges()
		c, ended, err := s.launch()
		if err != nil {
			s.over <- err
			return
		}
		s.log.Info("child started", "command", s.name(), "pid", c.Pid())
		s.note(c.Pid())
		s.follows(known)
		if s.cfg.OnStart != nil {
			s.cfg.OnStart()
		}
		again, err := s.attend(ctx, c, ended)
		s.note(0)
		if !again {
			s.over <- err
			return
		}
	}
}

// awaitChange waits for the first change. Signals that come before are
// nobody's, but one that would have ended the child ends the tool.
func (s *Bound) awaitChange(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.change:
			return true
		case sig := <-s.cfg.Signals:
			if sig == syscall.SIGTERM {
				s.over <- nil
				return false
			}
		}
	}
}

// attend serves one child until its end. It says whether another is started; if not,
// the error is the child's end, or nil where ctx has caused it.
func (s *Bound) attend(ctx context.Context, c child, ended <-chan exit) (again bool, err error) {
	var splay, limit <-chan time.Time
	if s.spec.Timeout > 0 {
		limit = time.After(s.spec.Timeout)
	}
	for {
		select {
		case <-ctx.Done():
			s.stop(c)
			<-ended
			return false, nil
		case e := <-ended:
			return false, s.end(e)
		case sig := <-s.cfg.Signals:
			s.pass(c, sig)
		case <-limit:
			s.stop(c)
			<-ended
			return false, cli.Exit(cli.ExitRun, fmt.Errorf("run %q: it ran longer than %s and was killed", s.name(), s.spec.Timeout))
		case <-s.change:
			if splay == nil {
				splay = time.After(s.splay())
			}
		case <-splay:
			splay = nil
			if s.spec.ReloadSignal != 0 {
				s.log.Info("child reloads", "command", s.name(), "signal", s.spec.ReloadSignal)
				known := s.takeChanges()
				s.told(c.Signal(s.spec.ReloadSignal), s.spec.ReloadSignal)
				s.follows(known)
				continue
			}
			select {
			case e := <-ended: // by itself, before we said so
				return false, s.end(e)
			default:
			}
			s.log.Info("child is stopped and started again", "command", s.name(), "signal", s.spec.KillSignal)
			return s.replace(ctx, c, ended)
		}
	}
}

// replace stops a child for another. A signal that is to end us is heard meanwhile: it
// goes to the child that ends, and there is no other.
func (s *Bound) replace(ctx context.Context, c child, ended <-chan exit) (again bool, err error) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop(c)
	}()
	ends := false
	for {
		select {
		case sig := <-s.cfg.Signals:
			s.pass(c, sig)
			ends = ends || sig == syscall.SIGTERM || sig == syscall.SIGINT
		case <-stopped:
			e := <-ended
			if ends {
				return false, s.end(e)
			}
			return ctx.Err() == nil, nil
		}
	}
}

// end is what a child that ended by itself makes of the tool: its own code.
func (s *Bound) end(e exit) error {
	if e.err != nil {
		return cli.Exit(cli.ExitRun, fmt.Errorf("run %q: %w", s.name(), e.err))
	}
	s.log.Info("child ended", "command", s.name(), "code", e.code)
	if e.code == 0 {
		return nil
	}
	return cli.Exit(e.code, nil)
}

// pass passes on a signal that we have got.
func (s *Bound) pass(c child, sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	switch number {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		s.mu.Lock()
		s.status.Stopped = true
		s.mu.Unlock()
	}
	s.told(c.Pass(number), number)
}

func (s *Bound) stop(c child) {
	if _, err := c.Stop(s.spec.KillSignal, s.spec.KillTimeout); err != nil {
		s.log.Warn("stopped the child", "command", s.name(), "error", err)
	}
}

// note keeps what Status says.
func (s *Bound) note(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Pid = pid
	if pid != 0 {
		s.status.Starts++
		s.status.Stopped = false
		s.status.StartedAt = time.Now()
	}
}

// Status is what the child does.
func (s *Bound) Status() Status {
	if s == nil {
		return Status{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}
