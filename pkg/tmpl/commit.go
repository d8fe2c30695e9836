package tmpl

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/render"
)

// bundle is what is replaced together: the templates of one Together, or one.
type bundle []*unit

// bundles are the units in the order of the first of each bundle.
func (e *engine) bundles() []bundle {
	var out []bundle
	at := map[string]int{}
	for _, u := range e.units {
		if i, ok := at[u.Together]; ok && u.Together != "" {
			out[i] = append(out[i], u)
			continue
		}
		at[u.Together] = len(out)
		out = append(out, bundle{u})
	}
	return out
}

// dueAt is when a bundle is to be written: when the last of what is on its way is
// due. It is never while something is missing.
func (b bundle) dueAt() (at time.Time, ok bool) {
	for _, u := range b {
		switch {
		case u.out == nil && (!u.done || u.pass != passComplete):
			return time.Time{}, false
		case u.out == nil, u.state.held():
		case !ok || u.due.After(at):
			at, ok = u.due, true
		}
	}
	return at, ok
}

func (b bundle) ready(now time.Time) bool {
	at, ok := b.dueAt()
	return ok && !now.Before(at)
}

// hash names what a bundle would write.
func (b bundle) hash() fingerprint {
	sum := sha256.New()
	for _, u := range b {
		if u.out != nil {
			addOutput(sum, u.out)
		}
	}
	return fingerprint(sum.Sum(nil))
}

// placement is a piece on its way.
type placement struct {
	piece
	unit   *unit
	of     fingerprint    // of the unit's output
	staged *render.Staged // nil: it is added to a file
}

func (p placement) commit() (render.Result, error) {
	if p.staged == nil {
		return render.Append(p.File)
	}
	return p.staged.Commit()
}

// commit puts the output of a bundle where it belongs: all of it is staged, then
// all checked, then all put in place. The units' commandPending says whether that changed anything.
func (e *engine) commit(ctx context.Context, b bundle) error {
	hash := b.hash()
	if e.cfg.Dry {
		return e.print(b)
	}
	lead := b[0]
	if lead.rejection != nil && hash == lead.rejected {
		return lead.rejection
	}
	all, err := stageAll(b)
	defer func() {
		for _, p := range all {
			if p.staged != nil {
				p.staged.Discard()
			}
		}
	}()
	if err != nil {
		return err
	}
	lead.rejection = nil
	if err := e.check(ctx, all); err != nil {
		if _, is := errors.AsType[errRejected](err); is {
			lead.rejection, lead.rejected = err, hash
		}
		return err
	}
	return e.replace(b, all)
}

// stageAll prepares all that a bundle writes; the caller discards it, also on an error.
func stageAll(b bundle) (all []placement, err error) {
	for _, u := range b {
		if u.out == nil {
			continue
		}
		of := fingerprintOf(u.out)
		for _, p := range u.pieces(u.out) {
			at := placement{piece: p, unit: u, of: of}
			if p.once && u.spentOn(of, p) {
				continue
			}
			if !p.append {
				if at.staged, err = render.Stage(p.File); err != nil {
					return all, err
				}
			}
			all = append(all, at)
		}
	}
	return all, nil
}

// check runs the templates' checks on what is staged. One that could not run is an
// errCheckFailed: it has rejected nothing.
func (e *engine) check(ctx context.Context, all []placement) error {
	for _, p := range all {
		if !p.main || p.unit.Check == "" || !p.staged.Changed() {
			continue
		}
		err := p.staged.Check(ctx, render.Check{Command: commandWords(p.unit.Check), Shell: e.cfg.Shell, Env: e.cfg.Env})
		var rejection *render.CheckError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &rejection):
			return errRejected{err}
		case err != nil:
			return errCheckFailed{err}
		}
	}
	return nil
}

// replace puts in place what is staged. When one of several cannot be, those before it
// are put back.
func (e *engine) replace(b bundle, all []placement) error {
	for _, u := range b {
		if u.out != nil {
			u.undo = nil
		}
	}
	for _, p := range all {
		res, err := p.commit()
		e.record(p.unit, res)
		if err != nil {
			if len(all) > 1 {
				e.takeBack(b)
			}
			return err
		}
		if p.once {
			p.unit.spend(p.of, p.piece)
		}
		if res.InPlace {
			e.notices.say(fmt.Sprintf("%s is a mount point of its own: it is written in place, and a reader can see half of it", p.Path))
		}
	}
	return nil
}

// takeBack restores what a commit that failed half way has replaced; no command
// is pending for it.
func (e *engine) takeBack(b bundle) {
	var units []*unit
	for _, u := range b {
		if u.out != nil { // else what it has replaced was another commit
			units = append(units, u)
		}
	}
	e.restore(units)
	for _, u := range units {
		u.commandPending, u.restored = u.commandPending && !u.restored, false
	}
}

// record keeps what a commit has replaced.
func (e *engine) record(u *unit, res render.Result) {
	if !res.Changed {
		return
	}
	u.commandPending = true
	u.undo = append(u.undo, res)
	if e.exec != nil {
		e.journal.add(u, res)
	}
}

// print is what Dry does instead.
func (e *engine) print(b bundle) error {
	for _, u := range b {
		if u.out == nil {
			continue
		}
		hash := fingerprintOf(u.out)
		if u.done && hash == u.printed {
			continue
		}
		u.printed = hash
		if _, err := fmt.Fprintf(e.cfg.Stdout, "> %s\n%s", u.Destination, u.out.Text); err != nil {
			cli.ExitOnEPIPE(err)
			return fmt.Errorf("print %s: %w", u.Source, err)
		}
		for _, f := range u.out.Files {
			if _, err := fmt.Fprintf(e.cfg.Stdout, "> %s\n%s", f.Path, f.Content); err != nil {
				cli.ExitOnEPIPE(err)
				return fmt.Errorf("print %s: %w", f.Path, err)
			}
		}
	}
	return nil
}

// restore puts back what the units' last commit has replaced. Files that are new
// stay, and so does one that cannot be restored. It says whether it did anything.
func (e *engine) restore(units []*unit) bool {
	any := false
	for _, u := range units {
		for _, res := range u.undo {
			done := e.putBack(res)
			any = any || done
			u.restored = u.restored || done
		}
		e.journal.drop(u, u.undo)
		u.undo = nil
	}
	return any
}

func (e *engine) putBack(res render.Result) bool {
	done, err := res.Restore()
	if err != nil {
		e.log.Error("cannot restore the file before", "file", res.Path, "error", err)
	}
	return done
}

// restoreAll puts back all that -exec has not accepted, and has it rendered again
// at that time (never, if it is zero), or, if it is held, when there are new data.
func (e *engine) restoreAll(again time.Time, why string, held bool) bool {
	any := false
	for _, entry := range e.journal.takeOldest() {
		done := e.putBack(entry.res)
		any = any || done
		if u := entry.unit; done && !again.IsZero() && u.out == nil && u.last != nil {
			u.refuse(byExec, again, held, why)
		}
	}
	return any
}

// refuse has what was written last written again: at that time, or, if it is held, when
// there are other data.
func (u *unit) refuse(by refuser, again time.Time, held bool, why string) {
	u.out, u.due, u.refusedBy, u.lastMessage = u.last, again, by, why
	u.failed(why)
	e := eventRefused
	if held {
		e = eventRefusedOften
	}
	u.transition(e)
}
