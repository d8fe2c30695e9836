package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
)

// rerunState is one of these. An order is of new files, or of files once more.
//
//	           order                     exit 0
//	waiting ----------> running -----------------------> waiting
//	                    |  |  ^  \
//	   order (a signal  |  |  |   \ other exit, or no start
//	   after the splay) |  |  |    v
//	                    |  |  |  failed -- order, or after a late failure 1, 2 ... 60 s --> running
//	  with a reload     |  |  |
//	  signal: running <-+  |  | it has ended
//	                       v  |
//	  without: the kill   stopping -- KillTimeout --> KILL to its group
//	  signal
//
// The end of the tool stops a running command like an order without a reload signal,
// and nothing starts after it.
//
// An early failure is reported: who hears of it restores the files, has the command run
// once on those (Fallback), and orders it again after the time that the report says.
type rerunState string

const (
	rerunWaiting  rerunState = "waiting"
	rerunRunning  rerunState = "running"
	rerunSplaying rerunState = "splaying" // runs, and will be signalled when the splay is over
	rerunStopping rerunState = "stopping"
	rerunFailed   rerunState = "failed"
)

// A command that ends badly so soon after a start or a reload signal has refused
// what was rendered; one that does later has crashed.
const refusedWithin = 30 * time.Second

const maxRerunBackoff = time.Minute

// Order is what the command is to run for.
type Order struct {
	Kind OrderKind
	Seq  int // of the files that it is about
}

// OrderKind is the kind of an Order.
type OrderKind int

// The kinds of orders; of two that nobody has taken yet the later kind stands.
const (
	Fallback OrderKind = iota // the files are restored: run once on them
	Retry                     // the same files as before, once more
	Change                    // new files
)

// Outcome is what the command has said about files: it accepted them, that is, it ended
// with 0 or has run for a while; or it failed early.
type Outcome struct {
	Seq      int
	Err      error         // why it failed; nil: accepted
	Delay    time.Duration // after a failure: when to order it again
	Failures int           // in a row, on the same content
}

// Rerun runs a command for each order. Its fields belong to the goroutine in Run.
type Rerun struct {
	base
	orders   chan Order   // capacity 1
	outcomes chan Outcome // capacity 1, the newest

	seq      int  // of the files that the command was last told of
	fallback bool // it runs on restored files
	state    rerunState
	child    child
	ended    <-chan exit
	since    time.Time // of the last start or reload signal
	failures int
	timer    *time.Timer // what it means depends on the state
}

// NewRerun makes a Rerun; it starts nothing before Run, or Once.
func NewRerun(spec Spec, cfg Config) *Rerun {
	t := time.NewTimer(0)
	t.Stop()
	r := &Rerun{base: newBase(spec, cfg), orders: make(chan Order, 1), outcomes: make(chan Outcome, 1), state: rerunWaiting, timer: t}
	r.start = r.startChild
	return r
}

func (r *Rerun) startChild() (child, error) {
	spec, err := r.resolve()
	if err != nil {
		return nil, err
	}
	spec.Leave = true
	c, err := proc.Start(spec)
	if err != nil {
		return nil, err // not a nil *proc.Child in an interface
	}
	return c, nil
}

// Tell gives an order. It does not wait: a newer order takes the place of one that
// nobody has taken. Only one goroutine may call it.
func (r *Rerun) Tell(o Order) {
	select {
	case old := <-r.orders:
		o.Kind = max(o.Kind, old.Kind)
	default:
	}
	r.orders <- o
}

// Outcomes yields what the command thinks of files; nil for a nil Rerun. Only the
// newest waits there.
func (r *Rerun) Outcomes() <-chan Outcome {
	if r == nil {
		return nil
	}
	return r.outcomes
}

// report says what the command thinks of the files. Only the goroutine in Run may
// call it.
func (r *Rerun) report(v Outcome) {
	if r.fallback {
		return
	}
	v.Seq = r.seq
	select {
	case <-r.outcomes:
	default:
	}
	r.outcomes <- v
}

// Run follows the diagram above until ctx ends and the command has ended too.
func (r *Rerun) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			r.shutdown()
			return
		case o := <-r.orders:
			r.onOrder(o)
		case sig := <-r.cfg.Signals:
			r.passOn(sig)
		case e := <-r.ended:
			r.onEnd(e)
		case <-r.timer.C:
			r.onTimer()
		}
	}
}

func (r *Rerun) onOrder(o Order) {
	if o.Kind == Fallback {
		if r.state == rerunFailed && o.Seq == r.seq {
			r.fallback = true
			r.run()
		}
		return
	}
	r.seq, r.fallback = o.Seq, false
	if o.Kind == Change {
		r.failures = 0
	}
	switch r.state {
	case rerunWaiting, rerunFailed:
		r.run()
	case rerunRunning:
		r.state = rerunSplaying
		r.timer.Reset(r.splay())
	case rerunSplaying, rerunStopping: // what comes next sees the newest files
	}
}

func (r *Rerun) onTimer() {
	switch r.state {
	case rerunRunning:
		r.report(Outcome{})
	case rerunSplaying:
		r.supersede()
	case rerunStopping:
		r.log.Warn("command did not end in time, killing it", "command", r.name(), "after", r.spec.KillTimeout)
		r.kill(syscall.SIGKILL)
	case rerunFailed:
		r.run()
	}
}

func (r *Rerun) onEnd(e exit) {
	r.timer.Stop()
	was := r.state
	r.child, r.ended = nil, nil
	switch {
	case was == rerunStopping || was == rerunSplaying:
		r.run()
	case e.err == nil && e.code == 0:
		r.log.Info("command is done", "command", r.name())
		r.state = rerunWaiting
		if !r.fallback {
			r.failures = 0
		}
		r.report(Outcome{})
	default:
		early := time.Since(r.since) < refusedWithin
		if !early {
			r.failures = 0
		}
		r.fail(Failure(r.name(), e.code, e.err), early)
	}
}

// run starts the command anew.
func (r *Rerun) run() {
	r.timer.Stop()
	c, ended, err := r.launch()
	if err != nil {
		r.fail(err, true)
		return
	}
	r.log.Info("command started", "command", r.name(), "pid", c.Pid())
	r.state, r.child, r.ended, r.since = rerunRunning, c, ended, time.Now()
	r.timer.Reset(refusedWithin)
}

// fail waits before the command is started again, or for new files.
func (r *Rerun) fail(err error, early bool) {
	r.state = rerunFailed
	if r.fallback {
		r.log.Error("command failed on the restored files too", "error", err)
		return
	}
	delay := retry.Exponential(time.Second, maxRerunBackoff, r.failures)
	r.failures++
	if early {
		r.report(Outcome{Err: err, Delay: delay, Failures: r.failures})
		return
	}
	r.timer.Reset(delay)
	r.log.Error("command failed after it had run for a while, starting it again", "error", err, "retry_in", delay)
}

// supersede makes a running command take notice of new files.
func (r *Rerun) supersede() {
	if r.spec.ReloadSignal != 0 {
		err := r.child.Signal(r.spec.ReloadSignal)
		if err == nil {
			r.log.Info("command reloads", "command", r.name(), "signal", r.spec.ReloadSignal)
			r.state, r.since = rerunRunning, time.Now()
			r.timer.Reset(refusedWithin)
			return
		}
		// It has just ended: onEnd starts it anew, because of the state below.
		if !errors.Is(err, os.ErrProcessDone) {
			r.log.Warn("cannot signal the command, starting it anew", "command", r.name(), "error", err)
		}
	}
	r.stop()
}

func (r *Rerun) stop() {
	r.state = rerunStopping
	r.kill(r.spec.KillSignal)
	r.timer.Reset(r.spec.KillTimeout)
}

func (r *Rerun) kill(sig syscall.Signal) {
	r.told(r.child.Pass(sig), sig)
}

// passOn hands a signal that is not ours to the command; without one it is lost.
func (r *Rerun) passOn(got os.Signal) {
	if sig, ok := got.(syscall.Signal); ok && r.child != nil {
		r.kill(sig)
	}
}

// shutdown ends what runs.
func (r *Rerun) shutdown() {
	r.timer.Stop()
	if r.child == nil {
		return
	}
	if r.state != rerunStopping {
		r.stop()
	} else {
		r.timer.Reset(r.spec.KillTimeout)
	}
	for {
		select {
		case <-r.ended:
			r.timer.Stop()
			return
		case <-r.timer.C:
			r.kill(syscall.SIGKILL)
		}
	}
}

// Once runs the command to its end; the error carries its exit code. An end that
// ctx caused is none. early says that the command refused the files, rather than
// failing after it had worked with them for a while.
func (r *Rerun) Once(ctx context.Context) (early bool, err error) {
	c, ended, err := r.launch()
	if err != nil {
		return true, err
	}
	r.child, r.ended = c, ended
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			r.shutdown()
			return false, nil
		case sig := <-r.cfg.Signals:
			r.passOn(sig)
		case e := <-ended:
			r.child = nil
			return time.Since(began) < refusedWithin, Failure(r.name(), e.code, e.err)
		}
	}
}

// Failure is the error of a command that ended: nil for a code of 0.
func Failure(command string, code int, err error) error {
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
