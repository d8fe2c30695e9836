package tmpl

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/pkg/funcs"
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
		case u.out == nil && (!u.done || len(u.missing) > 0 || u.broken):
			return time.Time{}, false
		case u.out == nil, u.held:
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
func (b bundle) hash() [sha256.Size]byte {
	sum := sha256.New()
	for _, u := range b {
		if u.out != nil {
			fmt.Fprintf(sum, "%d\n", len(u.out.Text))
			sum.Write(u.out.Text)
		}
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// commit puts the output of a bundle where it belongs: all of it is staged, then
// all checked, then all renamed. The units' owes says whether that changed anything.
func (e *engine) commit(ctx context.Context, b bundle) error {
	hash := b.hash()
	if e.cfg.Dry {
		return e.print(b)
	}
	lead := b[0]
	if lead.rejection != nil && hash == lead.rejected {
		return lead.rejection
	}
	staged := make([]*render.Staged, len(b))
	for i, u := range b {
		if u.out == nil {
			continue
		}
		s, err := render.Stage(render.File{
			Path: u.Destination, Content: u.out.Text, Mode: u.Perms, User: u.User, Group: u.Group, Backup: u.Backup, NoDirs: u.NoDirs,
		})
		if err != nil {
			return err
		}
		defer s.Discard()
		staged[i] = s
	}
	lead.rejection = nil
	for i, u := range b {
		if s := staged[i]; s != nil && u.Check != "" && s.Changed() {
			err := s.Check(ctx, render.Check{Command: commandWords(u.Check), Shell: e.cfg.Shell, Env: e.cfg.Env})
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil:
				lead.rejection, lead.rejected = errRejected{err}, hash
				return lead.rejection
			}
		}
	}
	return e.replace(ctx, b, staged)
}

// replace renames what is staged. When one of several cannot be replaced, those
// before it are put back.
func (e *engine) replace(ctx context.Context, b bundle, staged []*render.Staged) error {
	for i, u := range b {
		if staged[i] == nil {
			continue
		}
		u.undo = nil
		res, err := staged[i].Commit()
		e.record(u, res)
		if err == nil {
			err = e.writeOthers(ctx, u, res.Changed)
		}
		if err != nil {
			if len(b) > 1 {
				e.takeBack(b[:i+1])
			}
			return err
		}
		if res.InPlace {
			e.notices.say(fmt.Sprintf("%s is a mount point of its own: it is written in place, and a reader can see half of it", u.Destination))
		}
	}
	return nil
}

// takeBack restores what a commit that failed half way has replaced; no command
// is owed for it.
func (e *engine) takeBack(units []*unit) {
	e.restore(units)
	for _, u := range units {
		u.owes, u.restored = u.owes && !u.restored, false
	}
}

// record keeps what a commit has replaced.
func (e *engine) record(u *unit, res render.Result) {
	if !res.Changed {
		return
	}
	u.owes = true
	u.undo = append(u.undo, res)
	if e.exec != nil {
		e.journal.add(u, res)
	}
}

// writeOthers writes what a template asked for by writeToFile.
func (e *engine) writeOthers(ctx context.Context, u *unit, changed bool) error {
	if !changed && !u.owes && u.done {
		return nil
	}
	for _, f := range u.out.Files {
		res, err := writeFile(ctx, f)
		if err != nil {
			return err
		}
		e.record(u, res)
	}
	return nil
}

// print is what Dry does instead.
func (e *engine) print(b bundle) error {
	for _, u := range b {
		if u.out == nil {
			continue
		}
		hash := sha256.Sum256(u.out.Text)
		if u.done && hash == u.printed {
			continue
		}
		u.printed = hash
		if _, err := fmt.Fprintf(e.cfg.Stdout, "> %s\n%s", u.Destination, u.out.Text); err != nil {
			return fmt.Errorf("print %s: %w", u.Source, err)
		}
		for _, f := range u.out.Files {
			if _, err := fmt.Fprintf(e.cfg.Stdout, "> %s\n%s", f.Path, f.Content); err != nil {
				return fmt.Errorf("print %s: %w", f.Path, err)
			}
		}
	}
	return nil
}

func writeFile(ctx context.Context, f funcs.File) (render.Result, error) {
	if !f.Append {
		return render.Write(ctx, render.File{
			Path: f.Path, Content: f.Content, Mode: f.Mode, User: f.User, Group: f.Group,
		}, render.Check{})
	}
	res := render.Result{Path: f.Path}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return res, fmt.Errorf("append to %s: %w", f.Path, err)
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	file, err := os.OpenFile(f.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return res, fmt.Errorf("append: %w", err)
	}
	_, err = file.Write(f.Content)
	err = errors.Join(err, file.Close())
	res.Changed = err == nil // but there is nothing to restore it from
	return res, err
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
// at that time (never, if it is zero).
func (e *engine) restoreAll(again time.Time, why string) bool {
	any := false
	for _, entry := range e.journal.takeOldest() {
		done := e.putBack(entry.res)
		any = any || done
		if u := entry.unit; done && !again.IsZero() && u.out == nil && u.last != nil {
			u.out, u.due, u.retrying, u.forExec = u.last, again, true, true
			u.said = why
		}
	}
	return any
}
