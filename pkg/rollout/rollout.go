// Package rollout lets a change reach many machines a few at a time: a machine
// takes one of a number of slots, is drained, applies the change, proves that it
// is healthy again, and gives the slot to the next.
//
// What it promises: no more machines than there are slots are between the start
// of their change and the end of their health gate; after so many failures as
// AbortAfter says, no machine starts another change until somebody removes the
// failure log (LOCK/.abort in the key/value store). A slot is a lock of package lock:
// a machine that dies loses it when its session ends.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/lock"
	"github.com/muster-dev/muster/pkg/logx"
)

// ErrAborted says that the rollout was stopped after failures.
var ErrAborted = errors.New("the rollout was stopped")

// ErrFailed, as the cause of the end of a context that Do was given, says that what was
// changed has failed: the end counts as this machine's failure.
var ErrFailed = errors.New("this machine failed")

// Over is the cause of the end of a context because its owner ends with err, which is
// nil for an end in order.
func Over(err error) error {
	if err == nil {
		return context.Canceled
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// DefaultHealthTimeout is how long the health gate waits.
const DefaultHealthTimeout = time.Minute

// DrainNode is the Drain that puts the whole node into maintenance mode.
const DrainNode = "node"

// Config says how a change is rolled out. All machines of one rollout have to
// agree on Lock and Slots.
type Config struct {
	Client *client.Client
	Lock   string        // prefix of the lock, "svc/web"
	Slots  int           // machines at a time; 0 is 1
	TTL    time.Duration // of the lock; 0 is lock.DefaultTTL
	Delay  time.Duration // lock-delay

	// Drain puts the node (DrainNode) or the service with that id into maintenance
	// mode at the agent before the change, DrainWait long, and until it is done.
	Drain     string // "": nothing
	DrainWait time.Duration

	// After the change the checks of these services (by id, at the agent that is
	// asked) have to pass for Hold without a break: all of its checks where none is
	// named. A service that is named and has no check does not pass, and neither does one
	// that had a check before the change: nothing says that it is healthy. What does not
	// pass within HealthTimeout has failed. With Hold 0 nothing is waited for.
	Services      []string
	Hold          time.Duration
	HealthTimeout time.Duration // 0 is DefaultHealthTimeout

	AbortAfter int          // failures, on whatever machine, that stop it all; 0: none does
	Logger     *slog.Logger // nil logs nothing
}

// Rollout is one machine's part in it.
type Rollout struct {
	cfg  Config
	log  *slog.Logger
	lock *lock.Lock
	host string
}

// New checks the configuration; it asks nobody.
func New(cfg Config) (*Rollout, error) {
	switch {
	case cfg.Hold < 0 || cfg.DrainWait < 0 || cfg.HealthTimeout < 0:
		return nil, errors.New("a rollout's times cannot be below zero")
	case cfg.AbortAfter < 0:
		return nil, fmt.Errorf("stop after %d failures: it takes at least one", cfg.AbortAfter)
	}
	if cfg.HealthTimeout == 0 {
		cfg.HealthTimeout = DefaultHealthTimeout
	}
	r := &Rollout{cfg: cfg, log: cfg.Logger}
	if r.log == nil {
		r.log = logx.Discard()
	}
	r.host, _ = os.Hostname() // for people only
	var err error
	r.lock, err = lock.New(lock.Config{
		Client: cfg.Client, Prefix: cfg.Lock, Slots: cfg.Slots, TTL: cfg.TTL, Delay: cfg.Delay, Logger: r.log,
		Name:   lock.SessionName("rollout", cfg.Lock),
		Holder: lock.Holder{Host: r.host, PID: os.Getpid(), Command: "rollout"},
	})
	if err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	return r, nil
}

// Do waits for a slot and applies the change in it. ErrAborted says that the
// rollout was stopped before apply ran; lock.ErrLost that the slot was lost
// meanwhile, in which case apply's context has ended early. What apply returns,
// or a health gate that does not open, is a failure, and counts for AbortAfter. The end
// of ctx is none, unless its cause is ErrFailed.
func (r *Rollout) Do(ctx context.Context, apply func(context.Context) error) error {
	if err := r.aborted(ctx); err != nil { // do not even wait
		return err
	}
	return r.lock.Do(ctx, func(ctx context.Context, _ *lock.Held) error {
		if err := r.aborted(ctx); err != nil {
			return err
		}
		r.log.Info("rollout: this machine has a slot", "lock", r.lock.Key())
		err := r.step(ctx, apply)
		if err == nil || ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrFailed) {
			return err
		}
		return errors.Join(err, r.failed(err))
	})
}

// step is one machine's change, in its slot.
func (r *Rollout) step(ctx context.Context, apply func(context.Context) error) error {
	about, err := r.subject(ctx)
	if err != nil {
		return err
	}
	if err := r.drain(ctx); err != nil {
		return err
	}
	err = apply(ctx)
	if undrainErr := r.undrain(); undrainErr != nil {
		return errors.Join(err, undrainErr)
	}
	if err != nil {
		return err
	}
	return r.gate(ctx, about)
}
