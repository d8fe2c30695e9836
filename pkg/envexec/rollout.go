package envexec

import "context"

// change has the child follow a change: at once, or when it is our turn.
func (e *engine) change() {
	if e.turns == nil {
		e.sup.Changed()
		return
	}
	e.turns.Ask()
}

// behind says whether the child does not know the newest variables.
func (e *engine) behind() bool { return e.given.Load() != e.environ.Load() }

// inTurn restarts or signals the child; it returns when that is done. The health gate
// that follows opens on the child that was started in it, or has got the signal.
func (e *engine) inTurn(ctx context.Context) error {
	if e.cfg.OnChange == Signal {
		e.given.Store(e.environ.Load())
	}
	e.sup.Changed()
	return e.sup.Follow(ctx)
}
