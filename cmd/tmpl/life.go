package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"sync"
	"syscall"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/config"
)

// errRestart ends a Tool because something changed that it cannot take in while
// it runs: the agent's address, the exec block.
var errRestart = errors.New("the configuration changed")

// life is tmpl between its start and its end: one Tool, or, after reloads that
// change more than templates, several one after the other.
type life struct {
	opts   *options
	log    *slog.Logger
	level  *slog.LevelVar
	got    chan os.Signal // what we get
	others chan os.Signal // what of it is for the command

	mu      sync.Mutex
	now     *settings
	next    *settings // what the next Tool lives by, after errRestart
	tool    *tmpl.Tool
	restart context.CancelCauseFunc // ends tool alone
}

func newLife(o *options, s *settings) *life {
	l := &life{
		opts: o, level: &slog.LevelVar{}, now: s,
		got: make(chan os.Signal, 16), others: make(chan os.Signal, 16),
	}
	l.level.Set(s.level)
	l.log = newLogger(o.stderr, l.level, o.logJSON)
	return l
}

func (l *life) config(s *settings) tmpl.Config {
	cfg := s.tool
	cfg.Logger, cfg.Signals = l.log, l.others
	cfg.OnReady = func() { notify("READY=1") }
	return cfg
}

// run lives until a signal ends it, or the Tool ends.
func (l *life) run(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	tool, toolCtx := l.begin(ctx)
	closeStatus, err := serveStatus(l.opts.statusAddr, l.log, l.status)
	if err != nil {
		return err
	}
	defer closeStatus()
	defer l.dispatch(end)()
	for {
		err := tool.Run(toolCtx)
		if ctx.Err() != nil || !errors.Is(context.Cause(toolCtx), errRestart) {
			notify("STOPPING=1")
			return ended(ctx, err)
		}
		l.mu.Lock()
		l.now, l.next = l.next, nil
		l.mu.Unlock()
		l.log.Info("starting again with the new configuration")
		tool, toolCtx = l.begin(ctx)
	}
}

// begin makes the next Tool and the context that it runs under.
func (l *life) begin(ctx context.Context) (*tmpl.Tool, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	toolCtx, restart := context.WithCancelCause(ctx)
	l.tool, l.restart = tmpl.New(l.config(l.now)), restart
	l.listen(l.now)
	return l.tool, toolCtx
}

func (l *life) status() tmpl.Status {
	l.mu.Lock()
	tool := l.tool
	l.mu.Unlock()
	return tool.Status()
}

// ended is the end of it all, with the code of a signal that caused it.
func ended(ctx context.Context, err error) error {
	var by *cli.Interrupt
	if err == nil && errors.As(context.Cause(ctx), &by) && by.Signal != syscall.SIGTERM {
		return cli.Exit(cli.ExitInterrupted, nil)
	}
	return err
}

// supervising says whether signals are for a child first.
func (s *settings) supervising() bool { return len(s.tool.Supervise.Command) > 0 && !s.tool.Dry }

// listen asks for the signals that mean something; it only ever adds to them.
func (l *life) listen(s *settings) {
	want := []os.Signal{syscall.SIGINT, syscall.SIGTERM, s.kill}
	if s.reload != 0 {
		want = append(want, s.reload)
	}
	if s.tool.Exec.Command != "" {
		want = append(want, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	}
	if s.supervising() {
		want = append(want, forChild()...)
	}
	signal.Notify(l.got, want...)
}

// forChild are the signals that a supervised child gets: not those that are
// between a process and its runtime or its terminal, nor those of its own faults.
func forChild() []os.Signal {
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
func (l *life) dispatch(end context.CancelCauseFunc) (stop func()) {
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

func (l *life) on(sig os.Signal, end context.CancelCauseFunc) {
	l.mu.Lock()
	s := l.now
	l.mu.Unlock()
	ends := sig == s.kill || !s.supervising() && (sig == syscall.SIGTERM || sig == syscall.SIGINT)
	switch {
	case s.reload != 0 && sig == s.reload:
		l.reload()
	case ends:
		// A second one ends a process that hangs.
		signal.Reset(syscall.SIGINT, syscall.SIGTERM, s.kill)
		end(&cli.Interrupt{Signal: sig})
	default:
		select {
		case l.others <- sig:
		default: // the command has been told enough
		}
	}
}

// reload reads the configuration again: changed templates are taken in by the
// Tool that runs, other changes need a new one.
func (l *life) reload() {
	next, err := l.opts.load(os.Environ())
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.log.Error("cannot use the configuration, keeping the one before", "error", err)
		l.tool.Reload()
		return
	}
	if !slices.Equal(next.warnings, l.now.warnings) {
		for _, text := range next.warnings {
			l.log.Warn(text)
		}
	}
	if next.file.PidFile != l.now.file.PidFile {
		l.log.Warn("another pid_file is used from the next start on", "pid_file", next.file.PidFile)
	}
	l.level.Set(next.level)
	if l.next != nil || next.token != l.now.token || !reflect.DeepEqual(fixed(next.file), fixed(l.now.file)) {
		l.next = next
		l.restart(errRestart)
		return
	}
	l.now = next
	l.listen(next)
	l.tool.Reconfigure(next.tool.Templates, next.tool.Wait)
}

// fixed is what cannot change while a Tool runs.
func fixed(c *config.Config) config.Config {
	f := *c
	f.Templates, f.Quiescence, f.Delims, f.ErrorFatal = nil, nil, config.Delims{}, nil
	f.LogLevel, f.PidFile, f.ReloadSignal = "", "", nil
	return f
}
