// Package supervise runs a child with which its tool ends: the child is started when the
// tool is ready, follows each change, and when it ends by itself the tool ends with its
// code. When the child or this process ends, even by kill -9, all processes that the
// child started are killed (package proc).
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

	"github.com/muster-dev/muster/pkg/broadcast"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

// Spec says what is supervised.
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
		change: make(chan struct{}, 1), over: make(chan error, 1), gone: make(chan struct{}),
		news: make(chan struct{}, 1),
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	poke(s.change)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// takeChanges is how many changes there are, all of which what comes now knows of.
func (s *Supervisor) takeChanges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.change:
	default:
	}
	return s.asked
}

// follows notes that the child knows so many changes.
func (s *Supervisor) follows(changes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = changes
	s.moved.Notify()
	poke(s.news)
}

// Behind says whether there is a change that the child does not know: it was neither
// started nor signalled since.
func (s *Supervisor) Behind() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.followed < s.asked
}

// Followed yields when the child has followed changes, perhaps not yet all of them: see
// Behind. It has one reader.
func (s *Supervisor) Followed() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.news
}

// Follow waits until the child has followed all changes of before. The error says that
// it will not: ctx has ended, with its cause, or Run has.
func (s *Supervisor) Follow(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	want := s.asked
	s.mu.Unlock()
	for {
		s.mu.Lock()
		done, moved := s.followed >= want, s.moved.Changed()
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-s.gone:
			return fmt.Errorf("%q has ended before it followed the change", s.name())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
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
	defer close(s.gone)
	if !s.awaitChange(ctx) {
		return
	}
	defer s.release()
	for {
		known := s.takeChanges()
		c, err := s.start()
		if err != nil {
			s.over <- cli.Exit(cli.ExitRun, fmt.Errorf("start %q: %w", s.name(), err))
			return
		}
		s.log.Info("child started", "command", s.name(), "pid", c.Pid())
		s.note(c.Pid())
		s.follows(known)
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

// attend serves one child until its end. It says whether another is started; if not,
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

func randomBelow(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return rand.N(limit)
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
		s.status.Stopped = false
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
