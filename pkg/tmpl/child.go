package tmpl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
)

// The states of the -exec command. A change is a complete render that changed a
// file, or the first one whatever it did.
//
//	           change                    exit 0
//	waiting ----------> running -----------------------> waiting
//	                    |  |  ^  \
//	  change (a signal  |  |  |   \ other exit, or no start
//	  after the splay)  |  |  |    v
//	                    |  |  |  failed -- change, or 1, 2 ... 60 s --> running
//	  with a reload     |  |  |
//	  signal: running <-+  |  | it has ended
//	                       v  |
//	  without: the kill   stopping -- KillTimeout --> KILL to its group
//	  signal
//
// The end of tmpl stops a running command like a change without a reload signal,
// and nothing starts after it.
//
// Where somebody listens to outcomes, an early failure is theirs: they restore the
// files, have the command run once on those (fallback), and say when to try again.
type execState string

const (
	execWaiting  execState = "waiting"
	execRunning  execState = "running"
	execSplaying execState = "splaying" // runs, and will be signalled when the splay is over
	execStopping execState = "stopping"
	execFailed   execState = "failed"
)

// A command that ends badly so soon after a start or a reload signal has refused
// what was rendered; one that does later has crashed.
const refusedWithin = 30 * time.Second

const maxExecBackoff = time.Minute

// child is a program that runs: *proc.Child.
type child interface {
	Pid() int
	Signal(syscall.Signal) error
	Pass(syscall.Signal) error
	Wait(ctx context.Context) (code int, err error)
}

type exit struct {
	code int
	err  error
}

// order is what the engine tells the executor.
type order struct {
	kind orderKind
	seq  int // of the files that it is about
}

type orderKind int

const (
	orderFallback orderKind = iota // the files are restored: run once on them
	orderRetry                     // the same files as before, once more
	orderChange                    // new files
)

// outcome is what the command has said about files: it ended with 0, or has run
// for a while (accepted), or it failed early.
type outcome struct {
	seq      int
	err      error // nil: accepted
	delay    time.Duration
	failures int // in a row, on the same content
	accepted bool
}

// executor runs the -exec command. Its fields belong to the goroutine in run.
type executor struct {
	cfg    Exec
	log    *slog.Logger
	start  func() (child, error)
	change chan order       // capacity 1
	others <-chan os.Signal // for the command, if it runs
	// outcomes has capacity 1 and holds the newest; nil: nobody listens.
	outcomes chan outcome

	seq      int  // of the files that the command was last told of
	fallback bool // it runs on restored files
	state    execState
	child    child
	ended    chan exit
	since    time.Time // of the last start or reload signal
	failures int
	timer    *time.Timer // what it means depends on the state
}

func newExecutor(cfg Exec, log *slog.Logger, others <-chan os.Signal, start func() (child, error)) *executor {
	t := time.NewTimer(0)
	t.Stop()
	return &executor{
		cfg: cfg, log: log, start: start, others: others,
		change: make(chan order, 1), state: execWaiting, timer: t,
	}
}

// changed tells of new files.
func (x *executor) changed() { x.tell(order{kind: orderChange}) }

// tell does not wait: a newer order takes the place of one that nobody has taken.
// Only one goroutine may call it.
func (x *executor) tell(o order) {
	select {
	case old := <-x.change:
		o.kind = max(o.kind, old.kind)
	default:
	}
	x.change <- o
}

// report says what the command thinks of the files. Only the goroutine in run may
// call it.
func (x *executor) report(v outcome) {
	if x.outcomes == nil || x.fallback {
		return
	}
	v.seq = x.seq
	select {
	case <-x.outcomes:
	default:
	}
	x.outcomes <- v
}

// run follows the diagram above until ctx ends and the command has ended too.
func (x *executor) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			x.shutdown()
			return
		case o := <-x.change:
			x.onOrder(o)
		case sig := <-x.others:
			x.passOn(sig)
		case e := <-x.ended:
			x.onEnd(e)
		case <-x.timer.C:
			x.onTimer()
		}
	}
}

func (x *executor) onOrder(o order) {
	if o.kind == orderFallback {
		if x.state == execFailed && o.seq == x.seq {
			x.fallback = true
			x.launch()
		}
		return
	}
	x.seq, x.fallback = o.seq, false
	if o.kind == orderChange {
		x.failures = 0
	}
	switch x.state {
	case execWaiting, execFailed:
		x.launch()
	case execRunning:
		x.state = execSplaying
		if x.cfg.Splay <= 0 {
			x.supersede()
			return
		}
		x.timer.Reset(rand.N(x.cfg.Splay))
	case execSplaying, execStopping: // what comes next sees the newest files
	}
}

func (x *executor) onTimer() {
	switch x.state {
	case execRunning:
		x.report(outcome{accepted: true})
	case execSplaying:
		x.supersede()
	case execStopping:
		x.log.Warn("command did not end in time, killing it", "command", x.cfg.Command, "after", x.cfg.KillTimeout)
		x.kill(syscall.SIGKILL)
	case execFailed:
		x.launch()
	}
}

func (x *executor) onEnd(e exit) {
	x.timer.Stop()
	was := x.state
	x.child, x.ended = nil, nil
	switch {
	case was == execStopping || was == execSplaying:
		x.launch()
	case e.err == nil && e.code == 0:
		x.log.Info("command is done", "command", x.cfg.Command)
		x.state = execWaiting
		if !x.fallback {
			x.failures = 0
		}
		x.report(outcome{accepted: true})
	default:
		early := time.Since(x.since) < refusedWithin
		if !early {
			x.failures = 0
		}
		x.fail(failure(x.cfg.Command, e.code, e.err), early)
	}
}

// launch starts the command anew.
func (x *executor) launch() {
	x.timer.Stop()
	c, err := x.start()
	if err != nil {
		x.fail(fmt.Errorf("start %q: %w", x.cfg.Command, err), true)
		return
	}
	x.log.Info("command started", "command", x.cfg.Command, "pid", c.Pid())
	ended := make(chan exit, 1)
	x.state, x.child, x.ended, x.since = execRunning, c, ended, time.Now()
	x.timer.Reset(refusedWithin)
	go func() {
		code, err := c.Wait(context.Background())
		ended <- exit{code, err}
	}()
}

// fail waits before the command is started again, or for new files.
func (x *executor) fail(err error, early bool) {
	x.state = execFailed
	if x.fallback {
		x.log.Error("command failed on the restored files too", "error", err)
		return
	}
	delay := backoff(x.failures, maxExecBackoff)
	x.failures++
	if early && x.outcomes != nil {
		x.report(outcome{err: err, delay: delay, failures: x.failures})
		return
	}
	x.timer.Reset(delay)
	text := "command failed after it had run for a while, starting it again"
	if early {
		text = "command failed, the new files stay; running it again, or on new data"
	}
	x.log.Error(text, "error", err, "retry_in", delay)
}

// supersede makes a running command take notice of new files.
func (x *executor) supersede() {
	if x.cfg.ReloadSignal != 0 {
		err := x.child.Signal(x.cfg.ReloadSignal)
		if err == nil {
			x.log.Info("command reloads", "command", x.cfg.Command, "signal", x.cfg.ReloadSignal)
			x.state, x.since = execRunning, time.Now()
			x.timer.Reset(refusedWithin)
			return
		}
		// It has just ended: onEnd starts it anew, because of the state below.
		if !errors.Is(err, os.ErrProcessDone) {
			x.log.Warn("cannot signal the command, starting it anew", "command", x.cfg.Command, "error", err)
		}
	}
	x.stop()
}

func (x *executor) stop() {
	x.state = execStopping
	x.kill(x.cfg.KillSignal)
	x.timer.Reset(x.cfg.KillTimeout)
}

func (x *executor) kill(sig syscall.Signal) {
	if err := x.child.Pass(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		x.log.Warn("cannot signal the command", "command", x.cfg.Command, "signal", sig, "error", err)
	}
}

// passOn hands a signal that is not ours to the command; without one it is lost.
func (x *executor) passOn(got os.Signal) {
	if sig, ok := got.(syscall.Signal); ok && x.child != nil {
		x.kill(sig)
	}
}

// shutdown ends what runs.
func (x *executor) shutdown() {
	x.timer.Stop()
	if x.child == nil {
		return
	}
	if x.state != execStopping {
		x.stop()
	} else {
		x.timer.Reset(x.cfg.KillTimeout)
	}
	for {
		select {
		case <-x.ended:
			x.timer.Stop()
			return
		case <-x.timer.C:
			x.kill(syscall.SIGKILL)
		}
	}
}

// failure is the error of a command that ended: nil for a code of 0.
func failure(command string, code int, err error) error {
	switch {
	case err != nil:
		return cli.Exit(cli.ExitRun, fmt.Errorf("run %q: %w", command, err))
	case code == 0:
		return nil
	case code > 128:
		return cli.Exit(code, fmt.Errorf("run %q: ended by signal %s", command, syscall.Signal(code-128)))
	}
	return cli.Exit(code, fmt.Errorf("run %q: exit code %d", command, code))
}

// backoff is 1, 2, 4 ... seconds, at most limit.
func backoff(failures int, limit time.Duration) time.Duration {
	return retry.Exponential(time.Second, limit, failures)
}

// startExec is the executor's start: it resolves the command anew each time,
// because a template may have written it.
func startExec(cfg Config, notice func(string)) func() (child, error) {
	return func() (child, error) {
		argv, note, err := proc.Resolve([]string{cfg.Exec.Command}, cfg.Shell)
		if err != nil {
			return nil, err
		}
		if note != "" {
			notice(note)
		}
		c, err := proc.Start(proc.Spec{Argv: argv, Env: cfg.Exec.Env, Unmarked: cfg.Exec.Unmarked, Stdout: cfg.Stdout, Stderr: cfg.Stderr, Leave: true})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}
