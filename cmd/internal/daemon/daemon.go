// Package daemon is a reacting tool as a process: from its start to its end, through
// the signals that end it, make it read its configuration again, or are for its
// child.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/muster-dev/muster/pkg/cli"
)

// errRestart ends a Tool because something changed that it cannot take in while
// it runs: the agent's address, the exec block.
var errRestart = errors.New("the configuration changed")

// Tool is one run of a tool.
type Tool interface {
	Run(ctx context.Context) error
}

// Signals say what signals mean.
type Signals struct {
	Kill   syscall.Signal // ends the tool, with exit code 12
	Reload syscall.Signal // reads the configuration again; 0: none does
	Others []os.Signal    // are for the tool's command
	// Supervising says that INT and TERM are for the child, unless Kill is one of
	// them; otherwise they end the tool.
	Supervising bool
}

// Config configures a Life. S is what the configuration amounts to; values of it are
// not changed.
type Config[S any, T Tool] struct {
	Logger  *slog.Logger
	New     func(s S, others <-chan os.Signal) T
	Signals func(S) Signals
	// Load reads the configuration again. On its error the one before is kept, and
	// Failed called, if it is there.
	Load   func() (S, error)
	Failed func(T)
	// Prepare has a new Tool read all that it needs before the one that runs is ended
	// for its sake; its error keeps that one. It must start nothing. nil: nothing is read.
	Prepare func(T) error
	// Change has the tool take in what differs; false: it needs a new one.
	Change func(tool T, now, next S) bool
}

// Life is one Tool, or, after reloads that change more than a Tool can take in,
// several one after the other.
type Life[S any, T Tool] struct {
	cfg    Config[S, T]
	log    *slog.Logger
	got    chan os.Signal // what we get
	others chan os.Signal // what of it is for the command
	nohup  bool           // SIGHUP was ignored when we started

	mu      sync.Mutex
	now     S
	next    *successor[S, T] // after errRestart; nil: there is none
	tool    T
	restart context.CancelCauseFunc // ends tool alone
}

// successor is a Tool that is ready to take the place of another, and what it lives by.
type successor[S any, T Tool] struct {
	by   S
	tool T
}

// New makes a Life that begins with s.
func New[S any, T Tool](cfg Config[S, T], s S) *Life[S, T] {
	l := &Life[S, T]{
		cfg: cfg, log: cfg.Logger, now: s, restart: func(error) {},
		got: make(chan os.Signal, 16), others: make(chan os.Signal, 16), nohup: signal.Ignored(syscall.SIGHUP),
	}
	l.tool = cfg.New(s, l.others)
	return l
}

// Tool is the one that runs.
func (l *Life[S, T]) Tool() T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tool
}

// Run lives until a signal ends it, or the Tool ends.
func (l *Life[S, T]) Run(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	l.mu.Lock()
	tool, toolCtx := l.begin(ctx)
	l.mu.Unlock()
	defer l.dispatch(end)()
	for {
		err := tool.Run(toolCtx)
		if ctx.Err() != nil || !errors.Is(context.Cause(toolCtx), errRestart) {
			Notify("STOPPING=1")
			return ended(ctx, err)
		}
		l.log.Info("starting again with the new configuration")
		l.mu.Lock()
		l.now, l.tool = l.next.by, l.next.tool
		l.next = nil
		tool, toolCtx = l.begin(ctx)
		l.mu.Unlock()
	}
}

// begin makes the context that the Tool runs under. Callers hold mu.
func (l *Life[S, T]) begin(ctx context.Context) (T, context.Context) {
	toolCtx, restart := context.WithCancelCause(ctx)
	l.restart = restart
	l.listen(l.now)
	return l.tool, toolCtx
}

// ended is the end of it all, with the code of a signal that caused it.
func ended(ctx context.Context, err error) error {
	var by *cli.Interrupt
	if err == nil && errors.As(context.Cause(ctx), &by) && by.Signal != syscall.SIGTERM {
		return cli.Exit(cli.ExitInterrupted, nil)
	}
	return err
}

// listen asks for the signals that mean something; it only ever adds to them. SIGHUP
// that is ignored stays so, for a child too: a log-out must not end what nohup began.
// Where there is no child it may be what a user sends to reload, and does no harm.
func (l *Life[S, T]) listen(s S) {
	sigs := l.cfg.Signals(s)
	want := append([]os.Signal{syscall.SIGINT, syscall.SIGTERM, sigs.Kill}, sigs.Others...)
	if sigs.Reload != 0 {
		want = append(want, sigs.Reload)
	}
	if l.nohup && (sigs.Supervising || sigs.Reload != syscall.SIGHUP) {
		want = slices.DeleteFunc(want, func(sig os.Signal) bool { return sig == syscall.SIGHUP })
	}
	signal.Notify(l.got, want...)
}

// ForChild are the signals that a supervised child gets: not those that are
// between a process and its runtime or its terminal, nor those of its own faults.
func ForChild() []os.Signal {
	out := []os.Signal{
		syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
		syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGCONT, syscall.SIGIO, syscall.SIGXCPU, syscall.SIGXFSZ,
	}
	const firstFree, last = 35, 64 // of the real-time signals; the C library keeps the first
	for sig := syscall.Signal(firstFree); sig <= last; sig++ {
		out = append(out, sig)
	}
	return out
}

// dispatch does what signals say until the function it returns is called.
func (l *Life[S, T]) dispatch(end context.CancelCauseFunc) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case sig := <-l.got:
				l.on(sig, end)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(l.got)
		close(done)
		<-stopped
	}
}

func (l *Life[S, T]) on(sig os.Signal, end context.CancelCauseFunc) {
	l.mu.Lock()
	s := l.cfg.Signals(l.now)
	l.mu.Unlock()
	ends := sig == s.Kill || !s.Supervising && (sig == syscall.SIGTERM || sig == syscall.SIGINT)
	switch {
	case s.Reload != 0 && sig == s.Reload:
		l.reload()
	case ends:
		// A second one ends a process that hangs.
		signal.Reset(syscall.SIGINT, syscall.SIGTERM, s.Kill)
		end(&cli.Interrupt{Signal: sig})
	default:
		select {
		case l.others <- sig:
		default: // the command has been told enough
		}
	}
}

// reload reads the configuration again: some changes are taken in by the Tool that
// runs, others need a new one.
func (l *Life[S, T]) reload() {
	next, err := l.cfg.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.keep(err)
		return
	}
	if l.next == nil && l.cfg.Change(l.tool, l.now, next) {
		l.log.Info("the configuration was read again")
		l.now = next
		l.listen(next)
		return
	}
	tool := l.cfg.New(next, l.others)
	if l.cfg.Prepare != nil {
		if err := l.cfg.Prepare(tool); err != nil {
			l.keep(err)
			return
		}
	}
	l.log.Info("the configuration was read again")
	l.next = &successor[S, T]{next, tool}
	l.restart(errRestart)
}

// keep goes on with what there is. Callers hold mu.
func (l *Life[S, T]) keep(err error) {
	l.log.Error("cannot use the configuration, keeping the one before", "error", err)
	if l.cfg.Failed != nil && l.next == nil {
		l.cfg.Failed(l.tool)
	}
}
