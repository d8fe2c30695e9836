package rollout

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/muster-dev/muster/pkg/lock"
	"github.com/muster-dev/muster/pkg/retry"
)

const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// Slots is where slots come from: *Rollout.
type Slots interface {
	Recover(ctx context.Context) error
	Do(ctx context.Context, apply func(context.Context) error) error
	Wait(ctx context.Context) error
}

// Queue acquires slots one after the other, as a tool asks for them.
type Queue struct {
	by       Slots
	log      *slog.Logger
	asked    chan struct{} // capacity 1
	acquired chan *Slot
}

// Slot is one that was acquired. It is finished once, even if it was lost.
type Slot struct {
	// Context ends when the slot is lost, with lock.ErrLost in its cause.
	Context context.Context

	idle chan struct{} // closed when nothing runs in it any more, but what Finish waits for
	done chan error    // capacity 1
}

// Idle says that nothing of the owner runs in the slot any more. Until then a slot that
// is lost is not given back.
func (s *Slot) Idle() { close(s.idle) }

// Finish gives the slot back; err counts as this machine's failure. It does not wait.
func (s *Slot) Finish(err error) { s.done <- err }

// NewQueue makes a Queue, which acquires nothing before Run or Once.
func NewQueue(by Slots, log *slog.Logger) *Queue {
	return &Queue{by: by, log: log, asked: make(chan struct{}, 1), acquired: make(chan *Slot)}
}

// Acquired yields the slots in which Hand runs.
func (q *Queue) Acquired() <-chan *Slot { return q.acquired }

// Hand is an apply for Run and Once that gives the slot to who receives from Acquired,
// and waits until it is finished, or lost and idle.
func (q *Queue) Hand(ctx context.Context) error {
	s := &Slot{ctx, make(chan struct{}), make(chan error, 1)}
	select {
	case q.acquired <- s:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-s.idle
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ask asks for a slot. It does not wait. Several requests are one.
func (q *Queue) Ask() {
	select {
	case q.asked <- struct{}{}:
	default:
	}
}

// Withdraw takes back the request: the slot that was acquired serves it.
func (q *Queue) Withdraw() {
	select {
	case <-q.asked:
	default:
	}
}

// Run calls apply in a slot whenever one was asked for and is still wanted, until ctx
// ends. It tries again when no slot can be acquired, and when one was lost; a failure of
// apply is logged.
func (q *Queue) Run(ctx context.Context, wanted func() bool, apply func(context.Context) error) {
	q.recover(ctx)
	failures := 0
	for q.await(ctx) {
		if !wanted() {
			continue
		}
		had, err := q.acquire(ctx, apply)
		switch {
		case ctx.Err() != nil:
			return
		case had && errors.Is(err, lock.ErrLost):
			q.log.Error("rollout: the slot was lost, asking for another one", "error", err)
		case err == nil || had:
			failures = 0
			if err != nil {
				q.log.Error("rollout: this machine failed", "error", err)
			}
			continue
		case errors.Is(err, ErrAborted):
			q.log.Error("rollout: waiting", "error", err)
			if q.by.Wait(ctx) == nil {
				q.log.Info("rollout: going on")
			}
		default:
			delay := retry.Exponential(minBackoff, maxBackoff, failures)
			failures++
			q.log.Error("rollout: no slot, trying again", "error", err, "retry_in", delay)
			_ = retry.Sleep(ctx, delay) // await sees its end
		}
		q.Ask()
	}
}

// Once calls apply in the first slot that is asked for, and returns its error.
func (q *Queue) Once(ctx context.Context, apply func(context.Context) error) error {
	q.recover(ctx)
	if !q.await(ctx) {
		return context.Cause(ctx)
	}
	_, err := q.acquire(ctx, apply)
	return err
}

func (q *Queue) recover(ctx context.Context) {
	if err := q.by.Recover(ctx); err != nil && ctx.Err() == nil {
		q.log.Error("rollout", "error", err)
	}
}

// await returns false when ctx ended before somebody asked.
func (q *Queue) await(ctx context.Context) bool {
	select {
	case <-q.asked:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// acquire calls apply in a slot; had says that there was one.
func (q *Queue) acquire(ctx context.Context, apply func(context.Context) error) (had bool, err error) {
	err = q.by.Do(ctx, func(ctx context.Context) error {
		had = true
		return apply(ctx)
	})
	return had, err
}
