package envexec

import "context"

// change has the child follow a change: at once, or in a slot of the rollout.
func (e *engine) change() {
	if e.slots == nil {
		e.sup.Changed()
		return
	}
	e.slots.Ask()
}

// behind says whether the child does not know the newest variables.
func (e *engine) behind() bool { return e.given.Load() != e.environ.Load() }

// inSlot restarts or signals the child; it returns when that is done. The health gate
// that follows opens on the child that was started in it, or has got the signal.
func (e *engine) inSlot(ctx context.Context) error {
	if e.cfg.OnChange == Signal {
		e.given.Store(e.environ.Load())
	}
	e.sup.Changed()
	return e.sup.Follow(ctx)
}
