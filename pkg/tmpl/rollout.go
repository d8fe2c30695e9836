package tmpl

import (
	"context"
	"errors"
	"log/slog"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/rollout"
)

// slotQueue connects the engine to a rollout. A bundle that would change a file is queued
// until there is a slot; then everything that is due is written, with the newest data. The
// slot is finished when the commands are done, -exec has reported, and the supervised child
// has followed the change. The fields but ended belong to the engine.
type slotQueue struct {
	*rollout.Queue
	once  bool
	ended chan error // Once: the result of the slot; capacity 1

	open    *rollout.Slot // nil: there is none
	failure error         // the first in it
}

func newSlotQueue(by rollout.Slots, log *slog.Logger, once bool) *slotQueue {
	if by == nil {
		return nil
	}
	return &slotQueue{Queue: rollout.NewQueue(by, log), once: once, ended: make(chan error, 1)}
}

// run waits for slots until ctx ends.
func (t *slotQueue) run(ctx context.Context) {
	if t.once {
		t.ended <- t.Once(ctx, t.Hand)
		return
	}
	t.Run(ctx, func() bool { return true }, t.Hand)
}

// acquired yields slots; nil without a rollout.
func (e *engine) acquired() <-chan *rollout.Slot {
	if e.slots == nil || e.slots.open != nil {
		return nil
	}
	return e.slots.Acquired()
}

// noSlot yields the error with which Once gets no slot.
func (e *engine) noSlot() <-chan error {
	if e.slots == nil || !e.cfg.Once || e.slots.open != nil {
		return nil
	}
	return e.slots.ended
}

// queue says whether a bundle has to wait for a slot, and asks for one.
func (e *engine) queue(b bundle) bool {
	if e.slots == nil || e.slots.open != nil || e.cfg.Dry || !e.wouldChange(b) {
		b[0].queued = false
		return false
	}
	b[0].queued = true
	e.slots.Ask()
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

// useSlot writes what is due in a slot. It finishes the slot at once unless -exec or the
// supervised child have to do something first, or Once has. When the slot is lost, the command that runs is stopped,
// and the commands of everything that was written in it are pending.
func (e *engine) useSlot(ctx context.Context, slot *rollout.Slot) error {
	defer slot.Idle()
	t := e.slots
	t.open, t.failure = slot, nil
	t.Withdraw() // everything that is due is written now
	told := e.execSeq
	for _, u := range e.units {
		u.queued = false
	}
	err := e.write(slot.Context)
	lost := slot.Context.Err() != nil && ctx.Err() == nil
	switch {
	case lost && e.cfg.Once:
		t.open = nil
		e.endWithoutSlot(context.Cause(slot.Context))
	case lost:
		e.finishSlot(context.Cause(slot.Context))
	case e.cfg.Once || e.sup.Behind(): // see lastSlot and onFollowed
	case t.failure != nil || e.execSeq == told:
		e.finishSlot(t.failure)
	}
	return err
}

// onFollowed finishes a slot that waited for the supervised child. The child has the new
// files now, and the health gate that follows is about them.
func (e *engine) onFollowed() {
	if e.slots != nil && !e.cfg.Once && !e.sup.Behind() {
		e.finishSlot(e.slots.failure)
	}
}

// endAll ends what runs beside the engine, which ends with err. A failure is one of this
// machine in its slot, but for a child that somebody has stopped.
func (e *engine) endAll(cancel context.CancelCauseFunc, err error) {
	if e.sup.Status().Stopped {
		err = nil
	}
	cancel(rollout.Over(err))
}

// finishSlot gives the slot back; err counts as this machine's failure.
func (e *engine) finishSlot(err error) {
	if e.slots == nil || e.slots.open == nil {
		return
	}
	e.slots.open.Finish(err)
	e.slots.open = nil
}

// slotFailed notes the first error in a slot.
func (e *engine) slotFailed(err error) {
	if e.slots != nil && e.slots.failure == nil {
		e.slots.failure = err
	}
}

// endWithoutSlot is the end of Once without a slot.
func (e *engine) endWithoutSlot(err error) {
	e.setComplete(false) // nothing more is run
	for _, u := range e.units {
		if !u.done {
			u.out = nil
			u.transition(eventGaveUp)
		}
	}
	e.fail(cli.Exit(cli.ExitRun, err))
}

// lastSlot finishes Once's slot, with the health gate. ended says that the supervised
// child has ended meanwhile, and over how: a failure ends the slot by cancel.
func (e *engine) lastSlot(ctx context.Context, cancel context.CancelCauseFunc) (ended bool, over error) {
	if e.slots == nil || e.slots.open == nil {
		return false, nil
	}
	var died error
	if e.complete {
		died = e.sup.Follow(ctx)
	}
	e.finishSlot(errors.Join(e.first, died))
	var err error
	select {
	case err = <-e.slots.ended:
	case over = <-e.sup.Ends():
		ended = true
		if over != nil {
			e.endAll(cancel, over)
		}
		err = <-e.slots.ended
	}
	if err != nil && e.first == nil && over == nil && died == nil {
		e.fail(cli.Exit(cli.ExitRun, err))
	}
	return ended, over
}
