package rollout

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/muster-dev/muster/pkg/lock"
)

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Taker is where turns come from: *Rollout.
type Taker interface {
	Recover(ctx context.Context) error
	Do(ctx context.Context, apply func(context.Context) error) error
	Await(ctx context.Context) error
}

// Turns takes turns one after the other, as a tool asks for them.
type Turns struct {
	by    Taker
	log   *slog.Logger
	asked chan struct{} // capacity 1
}

// NewTurns makes Turns that are taken by Run or Once.
func NewTurns(by Taker, log *slog.Logger) *Turns {
	return &Turns{by: by, log: log, asked: make(chan struct{}, 1)}
}

// Ask asks for a turn. It does not wait, and one that is waited for already will be for
// this too.
func (t *Turns) Ask() {
	select {
	case t.asked <- struct{}{}:
	default:
	}
}

// Withdraw takes back what was asked for: the turn that has begun does it.
func (t *Turns) Withdraw() {
	select {
	case <-t.asked:
	default:
	}
}

// Run has apply run in a turn whenever one was asked for and is wanted still, until ctx
// ends. A turn that is not to be had is tried for again, and so is one that was lost
// meanwhile; that apply failed is logged, and no reason for another.
func (t *Turns) Run(ctx context.Context, wanted func() bool, apply func(context.Context) error) {
	t.recover(ctx)
	delay := firstRetry
	for t.await(ctx) {
		if !wanted() {
			continue
		}
		had, err := t.take(ctx, apply)
		switch {
		case ctx.Err() != nil:
			return
		case had && errors.Is(err, lock.ErrLost):
			t.log.Error("rollout: the slot was lost, asking for another turn", "error", err)
		case err == nil || had:
			delay = firstRetry
			if err != nil {
				t.log.Error("rollout: this machine failed", "error", err)
			}
			continue
		case errors.Is(err, ErrAborted):
			t.log.Error("rollout: waiting", "error", err)
			if t.by.Await(ctx) == nil {
				t.log.Info("rollout: going on")
			}
		default:
			t.log.Error("rollout: no turn, trying again", "error", err, "retry_in", delay)
			_ = sleep(ctx, delay) // await sees its end
			delay = min(2*delay, lastRetry)
		}
		t.Ask()
	}
}

// Once has apply run in the first turn that is asked for, and returns what has become
// of it.
func (t *Turns) Once(ctx context.Context, apply func(context.Context) error) error {
	t.recover(ctx)
	if !t.await(ctx) {
		return context.Cause(ctx)
	}
	_, err := t.take(ctx, apply)
	return err
}

func (t *Turns) recover(ctx context.Context) {
	if err := t.by.Recover(ctx); err != nil && ctx.Err() == nil {
		t.log.Error("rollout", "error", err)
	}
}

// await returns false when ctx ended before somebody asked.
func (t *Turns) await(ctx context.Context) bool {
	select {
	case <-t.asked:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// take takes a turn; had says that there was one.
func (t *Turns) take(ctx context.Context, apply func(context.Context) error) (had bool, err error) {
	err = t.by.Do(ctx, func(ctx context.Context) error {
		had = true
		return apply(ctx)
	})
	return had, err
}
