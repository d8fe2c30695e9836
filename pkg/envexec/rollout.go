package envexec

import (
	"context"
	"errors"
	"time"

	"github.com/muster-dev/muster/pkg/rollout"
)

// Rollout says when it is this machine's turn to follow a change: *rollout.Rollout.
type Rollout interface {
	Recover(ctx context.Context) error
	Do(ctx context.Context, apply func(context.Context) error) error
	Await(ctx context.Context) error
}

// rollRetry is how long it takes until a turn is asked for again after an error.
const rollRetry = 5 * time.Second

// change has the child follow a change: at once, or when it is our turn.
func (e *engine) change() {
	if e.cfg.Rollout == nil {
		e.sup.Changed()
		return
	}
	select {
	case e.rolls <- struct{}{}:
	default: // the turn that is waited for will be for this one too
	}
}

// roll takes turns until ctx ends. The health gate of a turn opens on the child that was
// started in it.
func (e *engine) roll(ctx context.Context) {
	by := e.cfg.Rollout
	if err := by.Recover(ctx); err != nil && ctx.Err() == nil {
		e.log.Error("rollout", "error", err)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.rolls:
		}
		for e.behind() {
			had := false
			err := by.Do(ctx, func(ctx context.Context) error {
				had = true
				return e.inTurn(ctx)
			})
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
			case had:
				e.log.Error("rollout: this machine failed", "error", err)
			case errors.Is(err, rollout.ErrAborted):
				e.log.Error("rollout: the child stays as it is, waiting", "error", err)
				if by.Await(ctx) == nil {
					e.log.Info("rollout: going on")
				}
			default:
				e.log.Error("rollout: no turn, trying again", "error", err, "retry_in", rollRetry)
				select {
				case <-time.After(rollRetry):
				case <-ctx.Done():
				}
			}
		}
	}
}

// behind says whether the child does not know the newest variables.
func (e *engine) behind() bool { return e.given.Load() != e.environ.Load() }

// inTurn restarts or signals the child; it returns when that is done.
func (e *engine) inTurn(ctx context.Context) error {
	if e.cfg.OnChange == Signal {
		e.given.Store(e.environ.Load())
		e.sup.Changed()
		return nil
	}
	select {
	case <-e.restarted: // of a start before
	default:
	}
	e.sup.Changed()
	select {
	case <-e.restarted:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
