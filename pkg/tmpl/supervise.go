package tmpl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

// Supervise is a child whose life is the tool's own: it is started after the
// first complete render, told of each change, and when it ends by itself the tool
// ends with its code. Its whole tree dies with it, and with us.
type Supervise struct {
	Command      []string // one command line, or argv; empty: none
	ReloadSignal syscall.Signal
	KillSignal   syscall.Signal // SIGINT
	KillTimeout  time.Duration  // 30 s
	Splay        time.Duration
	Timeout      time.Duration // the child may run so long; 0: for ever
	Env          []string      // nil: Config.Env
}

func (s *Supervise) settle(env []string) {
	if s.KillSignal == 0 {
		s.KillSignal = syscall.SIGINT
	}
	if s.KillTimeout == 0 {
		s.KillTimeout = defaultKillTimeout
	}
	if s.Env == nil {
		s.Env = env
	}
}

// supervisor follows this diagram; a change is a complete render that changed a
// file, or the first one whatever it did.
//
//	none -- change --> running -- the child ends --> over, with its code
//	                    |   ^
//	 change, after the  |   | it has ended: start
//	 splay: with a      v   |
//	 reload signal it  stopping -- KillTimeout --> KILL to its tree
//	 is signalled, else
//
// What belongs to the goroutine in run is not touched by others. Methods work
// on nil, which supervises nothing.
type supervisor struct {
	cfg    Supervise
	log    *slog.Logger
	start  func() (supervised, error)
	change chan struct{} // capacity 1
	others <-chan os.Signal
	over   chan error // capacity 1: how the child ended by itself
}

// supervised is a child that runs: *proc.Child.
type supervised interface {
	child
	Stop(sig syscall.Signal, killAfter time.Duration) (code int, err error)
}

func newSupervisor(cfg Config, notice func(string)) *supervisor {
	s := &supervisor{
		cfg: cfg.Supervise, log: cfg.Logger, others: cfg.Signals,
		change: make(chan struct{}, 1), over: make(chan error, 1),
	}
	s.start = func() (supervised, error) {
		argv, note, err := proc.Resolve(s.cfg.Command, cfg.Shell)
		if err != nil {
			return nil, err
		}
		if note != "" {
			notice(note)
		}
		c, err := proc.Start(proc.Spec{Argv: argv, Env: s.cfg.Env, Stdin: os.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return s
}

func (s *supervisor) name() string { return strings.Join(s.cfg.Command, " ") }

// changed tells of a render; it does not wait.
func (s *supervisor) changed() {
	if s == nil {
		return
	}
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// ends yields once, when the child has ended by itself or could not be started.
func (s *supervisor) ends() <-chan error {
	if s == nil {
		return nil
	}
	return s.over
}

// await is Once: it waits for the end of a child that was started.
func (s *supervisor) await(ctx context.Context, started bool) error {
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

// run follows the diagram until ctx ends, which stops the child, or the child
// does.
func (s *supervisor) run(ctx context.Context) {
	if !s.awaitChange(ctx) {
		return
	}
	for {
		c, err := s.start()
		if err != nil {
			s.over <- cli.Exit(cli.ExitRun, fmt.Errorf("start %q: %w", s.name(), err))
			return
		}
		s.log.Info("child started", "command", s.name(), "pid", c.Pid())
		again, err := s.attend(ctx, c)
		if !again {
			s.over <- err
			return
		}
	}
}

// awaitChange waits for the first complete render. Signals that come before are
// nobody's, but one that would have ended the child ends the tool.
func (s *supervisor) awaitChange(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.change:
			return true
		case sig := <-s.others:
			if sig == syscall.SIGTERM {
				s.over <- nil
				return false
			}
		}
	}
}

// attend lives with one child. It says whether there shall be another; if not,
// the error is the child's end, or nil where ctx has caused it.
func (s *supervisor) attend(ctx context.Context, c supervised) (again bool, err error) {
	ended := make(chan exit, 1)
	go func() {
		code, err := c.Wait(context.Background())
		ended <- exit{code, err}
	}()
	var splay, limit <-chan time.Time
	if s.cfg.Timeout > 0 {
		limit = time.After(s.cfg.Timeout)
	}
	for {
		select {
		case <-ctx.Done():
			s.stop(c)
			<-ended
			return false, nil
		case e := <-ended:
			return false, s.end(e)
		case sig := <-s.others:
			s.signal(c, sig.(syscall.Signal))
		case <-limit:
			s.stop(c)
			<-ended
			return false, cli.Exit(cli.ExitRun, fmt.Errorf("run %q: it ran longer than %s and was killed", s.name(), s.cfg.Timeout))
		case <-s.change:
			if splay == nil {
				splay = time.After(randomBelow(s.cfg.Splay))
			}
		case <-splay:
			splay = nil
			if s.cfg.ReloadSignal != 0 {
				s.log.Info("child reloads", "command", s.name(), "signal", s.cfg.ReloadSignal)
				s.signal(c, s.cfg.ReloadSignal)
				continue
			}
			select {
			case e := <-ended: // by itself, before we said so
				return false, s.end(e)
			default:
			}
			s.log.Info("child is stopped and started again", "command", s.name(), "signal", s.cfg.KillSignal)
			s.stop(c)
			<-ended
			return ctx.Err() == nil, nil
		}
	}
}

func randomBelow(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// end is what a child that ended by itself makes of the tool: its own code.
func (s *supervisor) end(e exit) error {
	if e.err != nil {
		return cli.Exit(cli.ExitRun, fmt.Errorf("run %q: %w", s.name(), e.err))
	}
	s.log.Info("child ended", "command", s.name(), "code", e.code)
	if e.code == 0 {
		return nil
	}
	return cli.Exit(e.code, nil)
}

func (s *supervisor) signal(c supervised, sig syscall.Signal) {
	if err := c.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("cannot signal the child", "command", s.name(), "signal", sig, "error", err)
	}
}

func (s *supervisor) stop(c supervised) {
	if _, err := c.Stop(s.cfg.KillSignal, s.cfg.KillTimeout); err != nil {
		s.log.Warn("stopped the child", "command", s.name(), "error", err)
	}
}
