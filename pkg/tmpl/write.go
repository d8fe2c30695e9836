package tmpl

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/render"
	"github.com/muster-dev/muster/pkg/retry"
	"github.com/muster-dev/muster/pkg/supervise"
)

const maxRetry = time.Minute

// maxRefusals is how often a command may refuse the same content, whose files are
// restored each time, before it is tried only on new data.
const maxRefusals = 3

// errRejected says that a check did not accept what was rendered.
type errRejected struct{ error }

// errCheckFailed says that a check could not run.
type errCheckFailed struct{ error }

func (e errCheckFailed) Unwrap() error { return e.error }

// write writes what is due, then runs the commands of what changed and tells
// the -exec command. An error ends the tool.
func (e *engine) write(ctx context.Context) error {
	now := time.Now()
	e.retryNow(now)
	var replaced []*unit // whose files changed, or whose command is still pending
	for _, b := range e.bundles() {
		if !b.ready(now) || e.queue(b) {
			continue
		}
		err := e.commit(ctx, b)
		if err != nil {
			if ctx.Err() != nil { // that the tool or the slot ends is no failure
				e.interruptedCommands(replaced)
				return nil
			}
			if err := e.writeFailed(b, err, now); err != nil {
				return err
			}
			continue
		}
		for _, u := range b {
			if u.commandPending {
				replaced = append(replaced, u)
			}
			if u.out != nil {
				e.written(u)
			}
		}
	}
	first := e.rendered()
	if e.cfg.Dry {
		return nil
	}
	stand := e.runCommands(ctx, replaced)
	if ctx.Err() != nil {
		e.interruptedCommands(replaced)
		e.setComplete(e.complete && !first)
		return nil
	}
	replaced = stand
	e.tellOthers(replaced, first, now)
	if first && e.cfg.OnReady != nil {
		e.cfg.OnReady()
	}
	return nil
}

// interruptedCommands has files whose command was not run, or stopped, written again, and
// the command run then.
func (e *engine) interruptedCommands(units []*unit) {
	for _, u := range units {
		if u.out == nil {
			u.out, u.due, u.refusedBy = u.last, time.Now(), byNoRun
			u.transition(eventInterrupted)
		}
		u.commandPending = true
	}
}

// retryNow makes what -exec has refused due at once when there is new data: the
// command gets another chance on all of it.
func (e *engine) retryNow(now time.Time) {
	fresh := false
	for _, u := range e.units {
		fresh = fresh || u.out != nil && u.refusedBy == nobody && !u.state.held() && !now.Before(u.due)
	}
	for _, u := range e.units {
		if fresh && u.refusedBy == byExec && u.out != nil {
			u.due = now
			u.transition(eventRetryNow)
		}
	}
}

// tellOthers tells -exec and -supervise what was replaced.
func (e *engine) tellOthers(replaced []*unit, first bool, now time.Time) {
	if !e.complete {
		return
	}
	if first || len(replaced) > 0 {
		e.sup.Changed()
	}
	if e.exec == nil || e.cfg.Once {
		return
	}
	kind := supervise.Retry
	for _, u := range replaced {
		if !u.wasRetry {
			kind = supervise.Change
		}
	}
	if first {
		kind = supervise.Change
	}
	due := !e.execRetry.IsZero() && !now.Before(e.execRetry)
	if first || len(replaced) > 0 || due {
		e.execRetry = time.Time{}
		e.execSeq = e.journal.endVersion()
		e.exec.Tell(supervise.Order{Kind: kind, Seq: e.execSeq})
	}
}

// rendered notes the first complete render and says whether it is now.
func (e *engine) rendered() bool {
	if e.complete || !e.allDone() {
		return false
	}
	e.setComplete(true)
	return true
}

func (e *engine) setComplete(yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.complete = yes
}

// allDone says that every unit has been written once, so that all data is there.
func (e *engine) allDone() bool {
	for _, u := range e.units {
		if !u.done {
			return false
		}
	}
	return true
}

func (e *engine) written(u *unit) {
	switch {
	case e.cfg.Dry:
	case u.commandPending:
		e.log.Info("rendered", "template", u.Source, "file", u.Destination)
		u.replacedAt = time.Now()
	default:
		e.log.Debug("rendered, nothing new", "template", u.Source, "file", u.Destination)
	}
	u.rendered(u.commandPending)
	u.items = e.items(u)
	u.last, u.wasRetry = u.out, u.refusedBy != nobody
	u.out, u.done, u.commandPending, u.failures, u.lastMessage, u.refusedBy = nil, true, false, 0, "", nobody
	u.transition(eventWritten)
	u.since = time.Time{}
}

// writeFailed decides what files that could not be replaced mean.
func (e *engine) writeFailed(b bundle, err error, now time.Time) error {
	e.slotFailed(err)
	if errors.Is(err, render.ErrReaderGone) { // as with any program in a pipeline
		return cli.Exit(128+int(syscall.SIGPIPE), err)
	}
	var rejected errRejected
	isRejected := errors.As(err, &rejected)
	var checkFailed errCheckFailed
	isCheckFailed := errors.As(err, &checkFailed)
	if e.cfg.Once {
		for _, u := range b {
			u.out = nil
			u.transition(eventGaveUp)
		}
		e.fail(cli.Exit(cli.ExitRun, err))
		return nil
	}
	text := "cannot write, trying again"
	if isCheckFailed {
		text = "the check could not run, trying again"
	}
	for _, u := range b {
		switch {
		case u.out == nil:
		case isRejected: // waits for new data, its own or that of another in the bundle
			u.since = time.Time{}
			u.transition(eventRejected)
			if len(b) == 1 {
				u.out = nil
			}
			if u.trouble(err.Error()) {
				e.log.Error("rejected, waiting for new data", "template", u.Source, "file", u.Destination, "error", err)
			}
		case u.fatal(!u.done && !u.late && !isCheckFailed):
			return cli.Exit(cli.ExitRun, err)
		default:
			delay := retry.Exponential(time.Second, maxRetry, u.failures)
			u.failures++
			u.due = now.Add(delay)
			u.transition(eventWriteFailed)
			if u.trouble(err.Error()) {
				e.log.Error(text, "template", u.Source, "file", u.Destination, "error", err, "retry_in", delay)
			}
		}
	}
	return nil
}
