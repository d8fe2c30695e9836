// Package supervise keeps a child whose life is its tool's own: it is started
// when the tool is ready, told of each change, and when it ends by itself the tool
// ends with its code. Its whole tree dies with it, and with us, even by kill -9
// (package proc).
//
// What it promises: the end of the child is seen whatever the tool is busy with; a
// change while the child starts or stops is not lost, and several of them are one;
// nothing is started once the context has ended.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

// Spec says what is kept.
type Spec struct {
	Command      []string       // one command line, or argv; empty: none
	ReloadSignal syscall.Signal // tells the child of a change; 0: it is stopped and started
	KillSignal   syscall.Signal // SIGINT
	KillTimeout  time.Duration  // 30 s
	Splay        time.Duration  // a change is followed a random time later, at most this
	Timeout      time.Duration  // the child may run so long; 0: for ever
	Unmarked     bool           // nothing of ours is in its environment, see proc.Spec
}

// DefaultKillTimeout is how long a child may take to end before it is killed.
const DefaultKillTimeout = 30 * time.Second

// Config is what surrounds the child. Only Logger is required.
type Config struct {
	Logger         *slog.Logger
	Signals        <-chan os.Signal // passed on to the child
	Notice         func(string)     // a remark for the log, each of which is said once
	Shell          *bool            // nil: by the form of the command, see proc.Resolve
	Env            func() []string  // asked at each start; nil, or a nil answer: our own
	OnStart        func()           // called after each start, which waits for it; nil: nobody cares
	Stdout, Stderr *os.File         // nil is /dev/null
}

// Supervisor follows this diagram.
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
type Supervisor struct {
	spec   Spec
	cfg    Config
	log    *slog.Logger
	start  func() (child, error)
	guard  *proc.Guard   // of all the children
	change chan struct{} // capacity 1
	over   chan error    // capacity 1: how the child ended by itself

	mu     sync.Mutex
	status Status
}

// Status is what the child does at the moment.
type Status struct {
	Pid       int       // 0: it does not run
	Starts    int       // how often it was started
	StartedAt time.Time // the last time
}

// child is one that runs: *proc.Child.
type child interface {
	Pid() int
	Signal(syscall.Signal) error
	Pass(syscall.Signal) error
	Wait(ctx context.Context) (code int, err error)
	Stop(sig syscall.Signal, killAfter time.Duration) (code int, err error)
}

type exit struct {
	code int
	err  error
}

// New makes a Supervisor; it starts nothing before Run.
func New(spec Spec, cfg Config) *Supervisor {
	if spec.KillSignal == 0 {
		spec.KillSignal = syscall.SIGINT
	}
	if spec.KillTimeout == 0 {
		spec.KillTimeout = DefaultKillTimeout
	}
	s := &Supervisor{
		spec: spec, cfg: cfg, log: cfg.Logger,
		change: make(chan struct{}, 1), over: make(chan error, 1),
	}
	s.start = s.startChild
	return s
}

func (s *Supervisor) startChild() (child, error) {
	argv, note, err := proc.Resolve(s.spec.Command, s.cfg.Shell)
	if err != nil {
		return nil, err
	}
	if note != "" && s.cfg.Notice != nil {
		s.cfg.Notice(note)
	}
	spec := proc.Spec{Argv: argv, Unmarked: s.spec.Unmarked, Stdin: os.Stdin, Stdout: s.cfg.Stdout, Stderr: s.cfg.Stderr}
	if s.cfg.Env != nil {
		spec.Env = s.cfg.Env()
	}
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
func (s *Supervisor) release() {
	if s.guard != nil {
		s.guard.Close()
		s.guard = nil
	}
}

func (s *Supervisor) name() string { return strings.Join(s.spec.Command, " ") }

// Changed tells of a change, the first of which starts the child; it does not wait.
func (s *Supervisor) Changed() {
	if s == nil {
		return
	}
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// Ends yields once, when the child has ended by itself or could not be started.
func (s *Supervisor) Ends() <-chan error {
	if s == nil {
		return nil
	}
	return s.over
}

// Await waits for the end of a child that was started, for a tool that has nothing
// else left to do. The end of ctx is no error.
func (s *Supervisor) Await(ctx context.Context, started bool) error {
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
func (s *Supervisor) Run(ctx context.Context) {
	if !s.awaitChange(ctx) {
		return
	}
	defer s.release()
	for {
		select {
		case <-s.change: // what starts now knows of it
		default:
		}
		c, err := s.start()
		if err != nil {
			s.over <- cli.Exit(cli.ExitRun, fmt.Errorf("start %q: %w", s.name(), err))
			return
		}
		s.log.Info("child started", "command", s.name(), "pid", c.Pid())
		s.note(c.Pid())
		if s.cfg.OnStart != nil {
			s.cfg.OnStart()
		}
		again, err := s.attend(ctx, c)
		s.note(0)
		if !again {
			s.over <- err
			return
		}
	}
}

// awaitChange waits for the first change. Signals that come before are
// nobody's, but one that would have ended the child ends the tool.
func (s *Supervisor) awaitChange(ctx context.Context) bool {
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

// attend lives with one child. It says whether there shall be another; if not,
// the error is the child's end, or nil where ctx has caused it.
func (s *Supervisor) attend(ctx context.Context, c child) (again bool, err error) {
	ended := make(chan exit, 1)
	go func() {
		code, err := c.Wait(context.Background())
		ended <- exit{code, err}
	}()
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
				splay = time.After(randomBelow(s.spec.Splay))
			}
		case <-splay:
			splay = nil
			if s.spec.ReloadSignal != 0 {
				s.log.Info("child reloads", "command", s.name(), "signal", s.spec.ReloadSignal)
				s.told(c.Signal(s.spec.ReloadSignal), s.spec.ReloadSignal)
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
func (s *Supervisor) replace(ctx context.Context, c child, ended <-chan exit) (again bool, err error) {
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

func randomBelow(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// end is what a child that ended by itself makes of the tool: its own code.
func (s *Supervisor) end(e exit) error {
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
func (s *Supervisor) pass(c child, sig os.Signal) {
	if number, ok := sig.(syscall.Signal); ok {
		s.told(c.Pass(number), number)
	}
}

// told says that a child could not be told; that it has just ended is no trouble.
func (s *Supervisor) told(err error, sig syscall.Signal) {
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("cannot signal the child", "command", s.name(), "signal", sig, "error", err)
	}
}

func (s *Supervisor) stop(c child) {
	if _, err := c.Stop(s.spec.KillSignal, s.spec.KillTimeout); err != nil {
		s.log.Warn("stopped the child", "command", s.name(), "error", err)
	}
}

// note keeps what Status says.
func (s *Supervisor) note(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Pid = pid
	if pid != 0 {
		s.status.Starts++
		s.status.StartedAt = time.Now()
	}
}

// Status is what the child does.
func (s *Supervisor) Status() Status {
	if s == nil {
		return Status{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}
