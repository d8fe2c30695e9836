package tmpl

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/rollout"
)

// Rollout says when it is this machine's turn to follow a change: *rollout.Rollout.
type Rollout interface {
	Recover(ctx context.Context) error
	Do(ctx context.Context, apply func(context.Context) error) error
	Await(ctx context.Context) error
}

// turns brings the engine and the Rollout together. A bundle that would change a
// file is queued until there is a turn; then everything that is due is written, with
// the newest data. The turn is open until the commands are done, and -exec has said
// what it thinks. The fields but the channels belong to the engine.
type turns struct {
	by      Rollout
	log     *slog.Logger
	once    bool
	asked   chan struct{} // capacity 1
	granted chan chan<- error
	ended   chan error // Once: what has become of the turn; capacity 1

	open    chan<- error // nil: it is not our turn
	trouble error        // what went wrong in it
}

func newTurns(by Rollout, log *slog.Logger, once bool) *turns {
	if by == nil {
		return nil
	}
	return &turns{
		by: by, log: log, once: once,
		asked: make(chan struct{}, 1), granted: make(chan chan<- error), ended: make(chan error, 1),
	}
}

// run waits for turns until ctx ends.
func (t *turns) run(ctx context.Context) {
	if err := t.by.Recover(ctx); err != nil && ctx.Err() == nil {
		t.log.Error("rollout", "error", err)
	}
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.asked:
		}
		had, err := t.turn(ctx)
		if t.once {
			t.ended <- err
			return
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || had:
			failures = 0
			if err != nil {
				t.log.Error("rollout: this machine failed", "error", err)
			}
			continue
		case errors.Is(err, rollout.ErrAborted):
			t.log.Error("rollout: waiting", "error", err)
			if t.by.Await(ctx) == nil {
				t.log.Info("rollout: going on")
			}
		default:
			delay := backoff(failures, maxRetry)
			failures++
			t.log.Error("rollout: no turn, trying again", "error", err, "retry_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
		}
		t.ask()
	}
}

// turn waits for one and leaves it to the engine; had says that there was one.
func (t *turns) turn(ctx context.Context) (had bool, err error) {
	err = t.by.Do(ctx, func(ctx context.Context) error {
		done := make(chan error, 1)
		select {
		case t.granted <- done:
			had = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return had, err
}

func (t *turns) ask() {
	select {
	case t.asked <- struct{}{}:
	default:
	}
}

// turn is where turns come from; nil without a rollout.
func (e *engine) turn() <-chan chan<- error {
	if e.turns == nil || e.turns.open != nil {
		return nil
	}
	return e.turns.granted
}

// noTurn is where Once learns that there will be none.
func (e *engine) noTurn() <-chan error {
	if e.turns == nil || !e.cfg.Once || e.turns.open != nil {
		return nil
	}
	return e.turns.ended
}

// queue says whether a bundle has to wait for a turn, and asks for one.
func (e *engine) queue(b bundle) bool {
	if e.turns == nil || e.turns.open != nil || e.cfg.Dry || !e.wouldChange(b) {
		b[0].queued = false
		return false
	}
	b[0].queued = true
	e.turns.ask()
	return true
}

// wouldChange says whether writing a bundle does anything.
func (e *engine) wouldChange(b bundle) bool {
	if b[0].rejection != nil && b.hash() == b[0].rejected {
		return false
	}
	for _, u := range b {
		if u.owes {
			return true
		}
		if u.out == nil {
			continue
		}
		data, err := os.ReadFile(u.Destination)
		if err != nil || !bytes.Equal(data, u.out.Text) || len(u.out.Files) > 0 && !u.done {
			return true
		}
	}
	return false
}

// takeTurn writes what is due in our turn. It is over at once unless -exec has to
// say something first, or Once has.
func (e *engine) takeTurn(ctx context.Context, done chan<- error) error {
	t := e.turns
	t.open, t.trouble = done, nil
	told := e.execSeq
	for _, u := range e.units {
		u.queued = false
	}
	err := e.write(ctx)
	if !e.cfg.Once && (t.trouble != nil || e.execSeq == told) {
		e.endTurn(t.trouble)
	}
	return err
}

// endTurn gives the turn back; err counts as this machine's failure.
func (e *engine) endTurn(err error) {
	if e.turns == nil || e.turns.open == nil {
		return
	}
	e.turns.open <- err
	e.turns.open = nil
}

// troubled notes what goes wrong in a turn.
func (e *engine) troubled(err error) {
	if e.turns != nil && e.turns.trouble == nil {
		e.turns.trouble = err
	}
}

// refuseTurn is Once without a turn.
func (e *engine) refuseTurn(err error) {
	for _, u := range e.units {
		if !u.done {
			u.gaveUp, u.out = true, nil
		}
	}
	e.fail(cli.Exit(cli.ExitRun, err))
}

// lastTurn is the end of Once's, with the health gate.
func (e *engine) lastTurn() {
	if e.turns == nil || e.turns.open == nil {
		return
	}
	e.endTurn(e.first)
	if err := <-e.turns.ended; err != nil && e.first == nil {
		e.fail(cli.Exit(cli.ExitRun, err))
	}
}
