package tmpl

import (
	"context"
	"errors"
	"log/slog"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/rollout"
)

// turns brings the engine and its rollout together. A bundle that would change a
// file is queued until there is a turn; then everything that is due is written, with
// the newest data. The turn is open until the commands are done, -exec has said what it
// thinks, and the supervised child is the new one, or knows of the change. The fields but the channels belong to the engine.
type turns struct {
	*rollout.Turns
	once    bool
	granted chan grant
	ended   chan error // Once: what has become of the turn; capacity 1

	open    chan<- error // nil: it is not our turn
	trouble error        // what went wrong in it
}

// grant is a turn that the engine gets.
type grant struct {
	ctx   context.Context // ends when the turn is lost
	wrote chan struct{}   // closed when what was due is written and commanded
	done  chan error      // takes the turn's result; capacity 1
}

func newTurns(by rollout.Taker, log *slog.Logger, once bool) *turns {
	if by == nil {
		return nil
	}
	return &turns{Turns: rollout.NewTurns(by, log), once: once, granted: make(chan grant), ended: make(chan error, 1)}
}

// run waits for turns until ctx ends.
func (t *turns) run(ctx context.Context) {
	if t.once {
		t.ended <- t.Once(ctx, t.grant)
		return
	}
	t.Run(ctx, func() bool { return true }, t.grant)
}

// grant leaves a turn to the engine. Of one that is lost it waits for the end of what
// the engine does in it.
func (t *turns) grant(ctx context.Context) error {
	g := grant{ctx, make(chan struct{}), make(chan error, 1)}
	select {
	case t.granted <- g:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-g.wrote
	select {
	case err := <-g.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// turn is where turns come from; nil without a rollout.
func (e *engine) turn() <-chan grant {
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
	e.turns.Ask()
	return true
}

// wouldChange says whether writing a bundle does anything.
func (e *engine) wouldChange(b bundle) bool {
	if b[0].rejection != nil && b.hash() == b[0].rejected {
		return false
	}
	for _, u := range b {
		if u.commandPending {
			return true
		}
		if u.out == nil {
			continue
		}
		of := fingerprintOf(u.out)
		for _, p := range u.pieces(u.out) {
			if u.wouldWrite(of, p) {
				return true
			}
		}
	}
	return false
}

// takeTurn writes what is due in our turn. It is over at once unless -exec or the
// supervised child have to do something first, or Once has. When it is lost, the command that runs is stopped,
// and the commands of everything that was written in it are pending.
func (e *engine) takeTurn(ctx context.Context, g grant) error {
	defer close(g.wrote)
	t := e.turns
	t.open, t.trouble = g.done, nil
	t.Withdraw() // everything that is due is written now
	told := e.execSeq
	for _, u := range e.units {
		u.queued = false
	}
	err := e.write(g.ctx)
	lost := g.ctx.Err() != nil && ctx.Err() == nil
	switch {
	case lost && e.cfg.Once:
		t.open = nil
		e.refuseTurn(context.Cause(g.ctx))
	case lost:
		e.endTurn(context.Cause(g.ctx))
	case e.cfg.Once || e.sup.Behind(): // see lastTurn and onFollowed
	case t.trouble != nil || e.execSeq == told:
		e.endTurn(t.trouble)
	}
	return err
}

// onFollowed ends a turn that waited for the supervised child. What it runs on is new
// now, and the health gate that follows opens on it.
func (e *engine) onFollowed() {
	if e.turns != nil && !e.cfg.Once && !e.sup.Behind() {
		e.endTurn(e.turns.trouble)
	}
}

// endAll ends what runs beside the engine, which ends with err. A failure is one of this
// machine in its turn, but for a child that somebody has stopped.
func (e *engine) endAll(cancel context.CancelCauseFunc, err error) {
	if e.sup.Status().Stopped {
		err = nil
	}
	cancel(rollout.Over(err))
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
	e.setComplete(false) // nothing more is run
	for _, u := range e.units {
		if !u.done {
			u.out = nil
			u.transition(eventGaveUp)
		}
	}
	e.fail(cli.Exit(cli.ExitRun, err))
}

// lastTurn is the end of Once's, with the health gate. ended says that the supervised
// child has ended meanwhile, and over how: a failure ends the turn by cancel.
func (e *engine) lastTurn(ctx context.Context, cancel context.CancelCauseFunc) (ended bool, over error) {
	if e.turns == nil || e.turns.open == nil {
		return false, nil
	}
	var died error
	if e.complete {
		died = e.sup.Follow(ctx)
	}
	e.endTurn(errors.Join(e.first, died))
	var err error
	select {
	case err = <-e.turns.ended:
	case over = <-e.sup.Ends():
		ended = true
		if over != nil {
			e.endAll(cancel, over)
		}
		err = <-e.turns.ended
	}
	if err != nil && e.first == nil && over == nil && died == nil {
		e.fail(cli.Exit(cli.ExitRun, err))
	}
	return ended, over
}
