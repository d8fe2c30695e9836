package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/proc"
)

// lostGrace is how long a child has between SIGTERM and SIGKILL when the lock
// was broken, unless half of the lock-delay is less.
const lostGrace = 5 * time.Second

// Command is a child that runs under a lock: its guard holds the lock's deadline.
//
//	           Start            the child ends
//	held -----------> running -----------------> ended
//	                   |   |                       ^
//	  INT, TERM or ctx |   | lost: TERM, then      |
//	                   v   v KILL by the guard     |
//	                  ending ----------------------+
type Command struct {
	Spec      proc.Spec        // the lock's variables are added to its Env
	Guard     *proc.Guard      // started while waiting for the lock; nil: Run starts one
	Signals   <-chan os.Signal // go to the child's group; INT and TERM end it
	KillAfter time.Duration    // from INT, TERM or the end of ctx to SIGKILL
	OnStop    func()           // called when Ctrl-Z has stopped it, before it stops us; may be nil
}

// Run starts the child and waits for its end; it gives its code. When ctx ends
// because the lock was lost, the child is dead before Run returns, and before
// the session's time is over.
func (c Command) Run(ctx context.Context, h *Held) (code int, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	spec := c.Spec
	if spec.Env == nil {
		spec.Env = os.Environ()
	}
	spec.Env = append(spec.Env[:len(spec.Env):len(spec.Env)], h.Environ()...)
	spec.Deadline, spec.OnStop = h.Deadline(), c.OnStop
	child, err := c.start(spec)
	if err != nil {
		return 0, fmt.Errorf("start the child: %w", err)
	}
	h.session.setOnRenew(func(d proc.Deadline) { _ = child.Deadline(d) }) // a child that ended needs none
	defer h.session.setOnRenew(nil)

	ended := make(chan struct{})
	go func() {
		code, err = child.Wait(context.Background())
		close(ended)
	}()
	done, kill := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case <-ended:
			return code, err
		case <-done:
			done = nil
			if errors.Is(context.Cause(ctx), ErrLost) {
				c.lost(child, h)
				continue
			}
			_ = child.Pass(syscall.SIGTERM)
			kill = time.After(c.KillAfter)
		case sig := <-c.Signals:
			_ = child.Pass(sig.(syscall.Signal))
			if kill == nil && (sig == syscall.SIGINT || sig == syscall.SIGTERM) {
				kill = time.After(c.KillAfter)
			}
		case <-kill:
			kill = nil
			go func() { _, _ = child.Stop(syscall.SIGKILL, 0) }()
		}
	}
}

// start starts the child below c.Guard; below a new guard if there is none, or if that
// was killed while waiting for the lock.
func (c Command) start(spec proc.Spec) (*proc.Child, error) {
	if c.Guard == nil {
		return proc.Start(spec)
	}
	child, err := c.Guard.Start(spec)
	if errors.Is(err, os.ErrProcessDone) {
		return proc.Start(spec)
	}
	return child, err
}

// lost makes the guard end the child: TERM now, KILL before anybody else can have the
// lock.
func (c Command) lost(child *proc.Child, h *Held) {
	h.session.setOnRenew(nil)
	d, now := h.Deadline(), proc.BootTime()
	broken := now + min(lostGrace, h.cfg.Delay/2)
	if d.Kill == 0 || broken < d.Kill {
		d.Kill = broken
	}
	if d.Term == 0 || now < d.Term {
		d.Term = now
	}
	_ = child.Deadline(d)
}
