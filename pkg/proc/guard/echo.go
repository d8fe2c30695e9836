package guard

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Who stops a service, or a job as a whole, sends its signal to all its processes: to
// the supervisor, to us and to the child (systemd's KillMode=control-group). The
// supervisor passes it on, and the child would get it twice. That we get it too tells
// that the child has got its own.

// echoTime is how long a signal that is passed on waits for our own; who sends to all
// does so within microseconds, unless the machine is very busy.
const echoTime = 50 * time.Millisecond

// lastSignal is the highest number there is.
const lastSignal = 64

// broadcast are the signals that are listened to. One that was ignored from the start
// (nohup) stays so, for the child too.
func broadcast() (all []os.Signal) {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(sig) {
			all = append(all, sig)
		}
	}
	return all
}

// echo tells which of the signals that the supervisor passes on the child has got.
type echo struct {
	heard [lastSignal + 1]time.Time // when we got it, and none was passed on yet
	owed  [lastSignal + 1]time.Time // when one that was passed on is sent; zero: none is
	timer *time.Timer               // nil until it is needed
}

// hear takes note of a signal of our own.
func (e *echo) hear(sig syscall.Signal) {
	if !e.owed[sig].IsZero() {
		e.owed[sig] = time.Time{}
		return
	}
	e.heard[sig] = time.Now()
}

// pass takes in a signal that is passed on; later sends it if the child has not got it.
func (e *echo) pass(sig syscall.Signal) {
	if time.Since(e.heard[sig]) < echoTime {
		e.heard[sig] = time.Time{}
		return
	}
	e.owed[sig] = time.Now().Add(echoTime)
	if e.timer == nil {
		e.timer = time.NewTimer(echoTime)
		return
	}
	e.timer.Reset(echoTime)
}

// fired yields when something may be due.
func (e *echo) fired() <-chan time.Time {
	if e.timer == nil {
		return nil
	}
	return e.timer.C
}

// due are the signals that have waited long enough.
func (e *echo) due() (all []syscall.Signal) {
	now := time.Now()
	for sig := range e.owed {
		at := e.owed[sig]
		switch {
		case at.IsZero():
		case now.Before(at):
			e.timer.Reset(at.Sub(now))
		default:
			e.owed[sig] = time.Time{}
			all = append(all, syscall.Signal(sig))
		}
	}
	return all
}
