// Package daemon runs a reacting tool as a process: its log, pid file, status and
// signals, and its reloads.
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

	"github.com/muster-dev/muster/cmd/internal/status"
	"github.com/muster-dev/muster/pkg/cli"
)

// errRestart ends an App because another takes its place.
var errRestart = errors.New("the configuration changed")

// App is one configuration of a tool, and the run that follows it.
type App interface {
	Common() Common
	// Open makes the tool, which starts nothing. It is called once, before all that follows.
	// The signals are those of Signals.Others, and, if Supervising, INT and TERM.
	Open(log *slog.Logger, signals <-chan os.Signal)
	// Run works until ctx ends or the tool does.
	Run(ctx context.Context) error
	// Prepare reads all that the App needs to take the place of one that runs. On its
	// error that one stays. It starts nothing.
	Prepare() error
	// Reconfigure has an App that runs follow next; false: next must take its place.
	Reconfigure(next App) bool
	// LoadFailed says that the configuration was read again in vain.
	LoadFailed()
	Status() Status
}

// Status is encoded as JSON for people, and gives metrics in Prometheus' text format.
type Status interface{ Metrics() string }

// Common are the settings that every tool has.
type Common struct {
	Level    slog.Level
	PidFile  string
	Warnings []string // for the log
	Signals  Signals
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

// Daemon runs an App, or, after reloads that change more than an App can follow,
// several one after the other.
type Daemon struct {
	Stderr     *os.File
	LogJSON    bool
	StatusAddr string
	Load       func() (App, error) // reads the configuration again

	log    *slog.Logger
	level  slog.LevelVar
	got    chan os.Signal // all that we get
	others chan os.Signal // those for the command
	nohup  bool           // SIGHUP was ignored at the start

	mu      sync.Mutex
	app     App
	common  Common                  // the newest that app follows
	next    App                     // takes app's place after errRestart; nil: none
	restart context.CancelCauseFunc // ends app alone
}

// Run runs app until a signal ends it, or the App ends.
func (d *Daemon) Run(parent context.Context, app App) error {
	cli.SurviveSIGPIPE()
	d.got, d.others, d.nohup = make(chan os.Signal, 16), make(chan os.Signal, 16), signal.Ignored(syscall.SIGHUP)
	d.common = app.Common()
	d.log = d.common.Log(d.Stderr, &d.level, d.LogJSON)
	app.Open(d.log, d.others)
	d.app = app
	d.listen(d.common.Signals) // who reads the pid file may send a signal at once
	remove, err := writePID(d.common.PidFile)
	if err != nil {
		return err
	}
	defer remove()
	stop, err := status.Serve(d.StatusAddr, d.log, func() any { return d.status() }, func() string { return d.status().Metrics() })
	if err != nil {
		return err
	}
	defer stop()
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	appCtx := d.begin(ctx, app)
	defer d.dispatch(end)()
	for {
		err := app.Run(appCtx)
		if ctx.Err() != nil || !errors.Is(context.Cause(appCtx), errRestart) {
			Notify("STOPPING=1")
			return ended(ctx, err)
		}
		d.log.Info("starting again with the new configuration")
		d.mu.Lock()
		app, d.next = d.next, nil
		d.follow(app.Common())
		appCtx = d.begin(ctx, app)
		d.mu.Unlock()
	}
}

func (d *Daemon) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.app.Status()
}

// begin makes app the one that runs, under the context that it returns. Callers hold mu,
// or are alone.
func (d *Daemon) begin(ctx context.Context, app App) (appCtx context.Context) {
	d.app = app
	appCtx, d.restart = context.WithCancelCause(ctx)
	return appCtx
}

// ended is Run's error: it has the exit code of the signal that caused the end.
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
func (d *Daemon) listen(sigs Signals) {
	want := append([]os.Signal{syscall.SIGINT, syscall.SIGTERM, sigs.Kill}, sigs.Others...)
	if sigs.Reload != 0 {
		want = append(want, sigs.Reload)
	}
	if d.nohup && (sigs.Supervising || sigs.Reload != syscall.SIGHUP) {
		want = slices.DeleteFunc(want, func(sig os.Signal) bool { return sig == syscall.SIGHUP })
	}
	signal.Notify(d.got, want...)
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
func (d *Daemon) dispatch(end context.CancelCauseFunc) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case sig := <-d.got:
				d.on(sig, end)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(d.got)
		close(done)
		<-stopped
	}
}

func (d *Daemon) on(sig os.Signal, end context.CancelCauseFunc) {
	d.mu.Lock()
	s := d.common.Signals
	d.mu.Unlock()
	ends := sig == s.Kill || !s.Supervising && (sig == syscall.SIGTERM || sig == syscall.SIGINT)
	switch {
	case s.Reload != 0 && sig == s.Reload:
		d.reload()
	case ends:
		// A second one ends a process that hangs.
		signal.Reset(syscall.SIGINT, syscall.SIGTERM, s.Kill)
		end(&cli.Interrupt{Signal: sig})
	default:
		select {
		case d.others <- sig:
		default: // the command has been told enough
		}
	}
}

// reload reads the configuration again: the App follows it, or another takes its place.
func (d *Daemon) reload() {
	next, err := d.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.keep(err)
		return
	}
	common := next.Common()
	if d.next == nil && d.app.Reconfigure(next) {
		d.log.Info("the configuration was read again")
		d.follow(common)
		return
	}
	next.Open(d.log, d.others)
	if err := next.Prepare(); err != nil {
		d.keep(err)
		return
	}
	d.log.Info("the configuration was read again")
	d.next = next
	d.restart(errRestart)
}

// follow changes what all tools can change while they run. Callers hold mu.
func (d *Daemon) follow(next Common) {
	if !slices.Equal(d.common.Warnings, next.Warnings) {
		for _, text := range next.Warnings {
			d.log.Warn(text)
		}
	}
	if d.common.PidFile != next.PidFile {
		d.log.Warn("another pid_file is used from the next start on", "pid_file", next.PidFile)
	}
	d.level.Set(next.Level)
	d.common = next
	d.listen(next.Signals)
}

// keep continues with the configuration before. Callers hold mu.
func (d *Daemon) keep(err error) {
	d.log.Error("cannot use the configuration, keeping the one before", "error", err)
	if d.next == nil {
		d.app.LoadFailed()
	}
}
