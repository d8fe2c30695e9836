package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

var (
	// ErrTimeout says that a Runner did not get the lock within its Timeout.
	ErrTimeout = errors.New("lock not acquired in time")
	// ErrNotRecorded says that the command has succeeded, but its success is not recorded.
	ErrNotRecorded = errors.New("the command has succeeded, but others do not know")
)

// Runner runs a command while it holds a lock.
//
//	         acquired            the command ends
//	waiting ----------> holding ------------------> ended
//	   ^                   |
//	   +-------------------+ lost, before the command began or with Elect
type Runner struct {
	Lock      *Lock
	Once      OncePer          // when to skip the command
	Timeout   time.Duration    // of the wait for the lock, until the command first begins; 0: none
	Elect     bool             // wait for the lock again after a loss
	Spec      proc.Spec        // of the command, see Command
	KillAfter time.Duration    // see Command
	Signals   <-chan os.Signal // end the wait for the lock; while it is held they are for the command
	Progress  func(format string, args ...any)
	Warn      func(format string, args ...any)
}

// Run waits for the lock, runs the command, and releases the lock. It gives the
// command's exit code, 0 where nothing had to be run. The error is ErrTimeout, ErrLost,
// ErrNotNoted, a *cli.Interrupt where a signal ended the wait, or another. It can run
// once at a time.
func (r *Runner) Run(parent context.Context) (code int, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	h := &runState{Runner: r, endWait: cancel, until: time.Now().Add(r.Timeout), child: make(chan os.Signal, 16)}
	quit := make(chan struct{})
	var dispatcher sync.WaitGroup
	defer dispatcher.Wait()
	defer close(quit)
	dispatcher.Go(func() { h.dispatch(quit) })

	err = h.run(ctx)
	var by *cli.Interrupt
	switch {
	case h.recordErr != nil:
		return 0, fmt.Errorf("%w: %w", ErrNotRecorded, h.recordErr)
	case err == nil, h.ended && errors.Is(err, ErrLost): // lost after the command's own end
		r.Progress("Cleanup succeeded")
		return h.code, nil
	case errors.Is(err, ErrLost), errors.Is(err, ErrTimeout):
		return 0, err
	case errors.As(context.Cause(ctx), &by):
		return 0, by
	}
	return 0, err
}

// runState is the state of one Run.
type runState struct {
	*Runner
	until     time.Time               // the end of Timeout
	child     chan os.Signal          // signals for the command
	endWait   context.CancelCauseFunc // ends the wait for the lock
	started   bool                    // the command was, at least once
	ended     bool                    // the command did, by itself and under the lock
	code      int                     // of the command
	recordErr error                   // why its success is not recorded

	mu      sync.Mutex
	holds   bool   // signals are for the command
	stopped bool   // one of them was to end it, and us
	onStop  func() // warns that a stopped process loses the lock
}

func (h *runState) run(ctx context.Context) error {
	if done, err := h.doneBefore(ctx); err != nil || done {
		return err
	}
	h.Progress("Setting up lock at path: %s", h.Lock.Key())
	for {
		err := h.hold(ctx)
		if !errors.Is(err, ErrLost) || h.ended || ctx.Err() != nil || h.toldToStop() {
			return err
		}
		switch {
		case !h.started:
			h.Warn("%v, before the command began; waiting for it again", err)
		case h.Elect:
			h.Warn("%v; standing again", err)
		default:
			return err
		}
	}
}

// doneBefore reports whether Once leaves nothing to do.
func (h *runState) doneBefore(parent context.Context) (bool, error) {
	ctx, inTime, end := h.withTimeout(parent)
	defer end()
	defer inTime()
	seen, err := h.Lock.FindSuccess(ctx, h.Once)
	return err == nil && h.alreadyDone(seen), err
}

func (h *runState) alreadyDone(seen LastSuccess) bool {
	if seen.Done != nil {
		h.Progress("Done already at %s by %s", seen.Done.Time.Local().Format(time.RFC3339), seen.Done.Host)
	}
	return seen.Done != nil
}

// withTimeout returns a context that ends after Timeout unless stop is called before; stop
// reports whether it was called in time. Once the command has begun there is no limit.
func (h *runState) withTimeout(parent context.Context) (ctx context.Context, stop func() bool, end func()) {
	ctx, cancel := context.WithCancelCause(parent)
	end = func() { cancel(nil) }
	if h.Timeout == 0 || h.started {
		return ctx, func() bool { return true }, end
	}
	timer := time.AfterFunc(time.Until(h.until), func() { cancel(ErrTimeout) })
	return ctx, timer.Stop, end
}

// hold acquires the lock, runs the command, and releases the lock.
func (h *runState) hold(parent context.Context) error {
	ctx, inTime, end := h.withTimeout(parent)
	defer end()
	h.Progress("Attempting lock acquisition")
	guard, err := proc.NewTerminalGuard() // it starts while we wait for the lock
	if err != nil {
		return err
	}
	defer guard.Close()
	return h.Lock.Do(ctx, func(ctx context.Context, held *Held) error {
		seen, err := h.Lock.FindSuccess(ctx, h.Once)
		switch {
		case err != nil:
			return err
		case !inTime():
			return ErrTimeout
		case h.alreadyDone(seen):
			return nil
		}
		if err := h.runChild(ctx, held, guard); err != nil || !h.ended || h.code != 0 {
			return err
		}
		// It has succeeded, even if the lock is lost while this is retried.
		h.recordErr = h.Lock.RecordSuccess(parent, h.Once, seen)
		return nil
	})
}

func (h *runState) runChild(ctx context.Context, held *Held, guard *proc.Guard) error {
	onStop := func() { h.warnOfStop(held) }
	h.setHolds(onStop)
	defer h.setHolds(nil)
	if ctx.Err() != nil { // by a signal that has just come, or a loss
		return context.Cause(ctx)
	}
	h.started = true
	h.Progress("Starting handler")
	code, err := Command{Spec: h.Spec, Guard: guard, Signals: h.child, KillAfter: h.KillAfter, OnStop: onStop}.Run(ctx, held)
	go guard.Close() // while the lock is released; hold waits for its end
	if err != nil {
		return err
	}
	h.code, h.ended = code, ctx.Err() == nil && held.Lost() == nil
	h.Progress("Child terminated, releasing lock")
	return nil
}

// warnOfStop warns what happens to the lock while this process is stopped (SIGTSTP).
func (h *runState) warnOfStop(held *Held) {
	if h.Lock.cfg.Safe {
		h.Warn("stopped: %s stays held", held.Key())
		return
	}
	h.Warn("stopped: %s is lost, and the command killed, unless it goes on (fg, bg) within %v", held.Key(), held.Left().Round(time.Second))
}

// dispatch handles signals until quit is closed.
func (h *runState) dispatch(quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case sig := <-h.Signals:
			h.signal(sig)
		}
	}
}

func (h *runState) signal(sig os.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case sig == syscall.SIGTSTP: // the command may have a session of its own, and run on
		if h.onStop != nil {
			h.onStop()
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case h.holds:
		// Remembered too: a leader that is told to stop does not stand again.
		h.stopped = h.stopped || sig == syscall.SIGINT || sig == syscall.SIGTERM
		select {
		case h.child <- sig:
		default: // the buffer is full
		}
	case sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2 && sig != syscall.SIGWINCH:
		h.endWait(&cli.Interrupt{Signal: sig})
	}
}

// setHolds says that signals are for the command (onStop is not nil), or not. Those for
// an earlier command are dropped.
func (h *runState) setHolds(onStop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds, h.onStop = onStop != nil, onStop
	for len(h.child) > 0 {
		<-h.child
	}
}

func (h *runState) toldToStop() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped
}
