package tmpl

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/render"
)

const maxRetry = time.Minute

// command is what runs after a change; templates that name the same one share
// one run.
type command struct {
	line    string
	timeout time.Duration
}

// retry is a command that failed and will run again.
type retry struct {
	at       time.Time
	failures int
}

// errRejected says that a check did not accept what was rendered.
type errRejected struct{ error }

// write writes what is due, then runs the commands of what changed and tells
// the -exec command. An error ends the tool.
func (e *engine) write(ctx context.Context) error {
	now := time.Now()
	anyChanged := false
	var todo []command
	for _, u := range e.units {
		if u.out == nil || now.Before(u.due) {
			continue
		}
		err := e.commit(ctx, u)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if err := e.writeFailed(u, err, now); err != nil {
				return err
			}
			continue
		}
		anyChanged = anyChanged || u.owes
		if c := (command{u.Command, u.CommandTimeout}); u.owes && c.line != "" {
			todo = appendOnce(todo, c)
		}
		e.written(u)
	}
	first := e.rendered()
	if e.cfg.Dry {
		return nil
	}
	e.runAll(ctx, todo, now)
	if e.exec != nil && !e.cfg.Once && e.complete && (first || anyChanged) {
		e.exec.changed()
	}
	return nil
}

// rendered notes the first complete render and says whether it is now.
func (e *engine) rendered() bool {
	if e.complete {
		return false
	}
	for _, u := range e.units {
		if !u.done {
			return false
		}
	}
	e.complete = true
	return true
}

func (e *engine) written(u *unit) {
	switch {
	case e.cfg.Dry:
	case u.owes:
		e.log.Info("rendered", "template", u.Source, "file", u.Destination)
	default:
		e.log.Debug("rendered, nothing new", "template", u.Source, "file", u.Destination)
	}
	u.out, u.done, u.owes, u.failures, u.said = nil, true, false, 0, ""
	u.deadline = time.Time{}
}

// writeFailed decides what a file that could not be replaced means.
func (e *engine) writeFailed(u *unit, err error, now time.Time) error {
	var rejected errRejected
	isRejected := errors.As(err, &rejected)
	switch {
	case e.cfg.Once:
		u.gaveUp, u.out = true, nil
		e.fail(cli.Exit(cli.ExitRun, err))
		return nil
	case isRejected: // waits for new data
		u.out, u.deadline = nil, time.Time{}
		if u.news(err.Error()) {
			e.log.Error("rejected, waiting for new data", "template", u.Source, "file", u.Destination, "error", err)
		}
		return nil
	case !u.done:
		return cli.Exit(cli.ExitRun, err)
	}
	delay := backoff(u.failures, maxRetry)
	u.failures++
	u.due = now.Add(delay)
	if u.news(err.Error()) {
		e.log.Error("cannot write, trying again", "template", u.Source, "file", u.Destination, "error", err, "retry_in", delay)
	}
	return nil
}

// commit puts a unit's output where it belongs; u.owes says whether that changed
// anything.
func (e *engine) commit(ctx context.Context, u *unit) error {
	hash := sha256.Sum256(u.out.Text)
	if e.cfg.Dry {
		return e.print(u, hash)
	}
	if u.rejection != nil && hash == u.rejected {
		return u.rejection
	}
	staged, err := render.Stage(render.File{
		Path: u.Destination, Content: u.out.Text, Mode: u.Perms, User: u.User, Group: u.Group, Backup: u.Backup,
	})
	if err != nil {
		return err
	}
	defer staged.Discard()
	u.rejection = nil
	if u.Check != "" && staged.Changed() {
		err := staged.Check(ctx, render.Check{Command: []string{u.Check}, Shell: e.cfg.Shell, Env: e.cfg.Env})
		if err != nil {
			u.rejection, u.rejected = errRejected{err}, hash
			return u.rejection
		}
	}
	res, err := staged.Commit()
	if err != nil {
		return err
	}
	u.owes = u.owes || res.Changed
	if !u.owes && u.done {
		return nil
	}
	for _, f := range u.out.Files {
		changed, err := writeFile(ctx, f)
		if err != nil {
			return err
		}
		u.owes = u.owes || changed
	}
	return nil
}

// print is what Dry does instead.
func (e *engine) print(u *unit, hash [sha256.Size]byte) error {
	if u.done && hash == u.printed {
		return nil
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
	return nil
}

// writeFile writes what a template asked for by writeToFile.
func writeFile(ctx context.Context, f funcs.File) (changed bool, err error) {
	if !f.Append {
		res, err := render.Write(ctx, render.File{
			Path: f.Path, Content: f.Content, Mode: f.Mode, User: f.User, Group: f.Group,
		}, render.Check{})
		return res.Changed, err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return false, fmt.Errorf("append to %s: %w", f.Path, err)
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	file, err := os.OpenFile(f.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return false, fmt.Errorf("append: %w", err)
	}
	_, err = file.Write(f.Content)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err == nil, err
}

// runAll runs the commands of this round and those whose second try is due.
func (e *engine) runAll(ctx context.Context, todo []command, now time.Time) {
	for c, r := range e.commands {
		if !now.Before(r.at) {
			todo = appendOnce(todo, c)
		}
	}
	for _, c := range todo {
		err := e.runCommand(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			delete(e.commands, c)
			continue
		}
		if e.cfg.Once {
			e.fail(err)
			continue
		}
		r := e.commands[c]
		if r == nil {
			r = &retry{}
			e.commands[c] = r
		}
		delay := backoff(r.failures, maxRetry)
		r.failures++
		r.at = time.Now().Add(delay)
		e.log.Error("command failed, the new files stay; running it again, or on new data", "error", err, "retry_in", delay)
	}
}

func (e *engine) runCommand(ctx context.Context, c command) error {
	argv, note, err := proc.Resolve([]string{c.line}, e.cfg.Shell)
	if err != nil {
		return cli.Exit(cli.ExitRun, err)
	}
	if note != "" {
		e.notices.say(note)
	}
	res, err := proc.Command{
		Argv: argv, Env: e.cfg.Env, Timeout: c.timeout, Stdout: e.cfg.Stdout, Stderr: e.cfg.Stderr,
	}.Run(ctx)
	if err := failure(c.line, res.Code, err); err != nil {
		return err
	}
	e.log.Info("command is done", "command", c.line)
	return nil
}

func appendOnce(list []command, c command) []command {
	for _, have := range list {
		if have == c {
			return list
		}
	}
	return append(list, c)
}
