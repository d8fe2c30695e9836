package tmpl

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
	"github.com/muster-dev/muster/pkg/supervise"
)

// command is what runs after a change; templates that name the same one share
// one run.
type command struct {
	line    string
	timeout time.Duration
	env     string // joined by NUL; "": Config.Env
}

// runCommands runs the commands of units whose files were replaced, each once.
// One that fails has its files restored, runs once on those, and again when they
// are rendered anew. It returns the units whose new files stand.
func (e *engine) runCommands(ctx context.Context, replaced []*unit) []*unit {
	var todo []command
	of := map[command][]*unit{}
	for _, u := range replaced {
		c := command{u.Command, u.CommandTimeout, joinEnv(u.Env)}
		if of[c] == nil {
			todo = append(todo, c)
		}
		of[c] = append(of[c], u)
	}
	var stand []*unit
	for _, c := range todo {
		units := of[c]
		var err error
		if c.line != "" {
			err = e.runCommand(ctx, c)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			units = e.refused(ctx, c, units, err)
		} else {
			for _, u := range units {
				u.refusals = 0
			}
		}
		stand = append(stand, units...)
	}
	return stand
}

// refused is a command that failed on what its templates have written. It
// returns the units whose files stay nevertheless, because they are new.
func (e *engine) refused(ctx context.Context, c command, units []*unit, err error) (stand []*unit) {
	e.slotFailed(err)
	restored := e.restore(units)
	delay := retry.Exponential(time.Second, maxRetry, units[0].refusals)
	last := units[0].refusals+1 >= maxRefusals
	switch {
	case e.cfg.Once:
		e.fail(err)
	case restored && last:
		e.log.Error(knownBad, "error", err, "times", maxRefusals)
	case restored:
		e.log.Error(restoredText, "error", err, "retry_in", delay)
	default:
		e.log.Error(staysText, "error", err, "retry_in", delay)
	}
	if restored {
		if err := e.runCommand(ctx, c); err != nil && ctx.Err() == nil {
			e.log.Error("command failed on the restored files too", "error", err)
		}
	}
	for _, u := range units {
		if !u.restored {
			stand = append(stand, u)
		}
		if !e.cfg.Once {
			u.refuse(byCommand, time.Now().Add(delay), u.restored && last, err.Error())
			u.commandPending = !u.restored // else it will be when the file is replaced again
			u.refusals++
		}
		u.restored = false
	}
	return stand
}

func (e *engine) runCommand(ctx context.Context, c command) error {
	argv, note, err := resolve(c.line, e.cfg.Shell)
	if err != nil {
		return cli.Exit(cli.ExitRun, err)
	}
	if note != "" {
		e.notices.say(note)
	}
	res, err := proc.Command{
		Argv: argv, Env: c.environ(e.cfg.Env), Timeout: c.timeout, Stdout: e.cfg.Stdout, Stderr: e.cfg.Stderr,
	}.Run(ctx)
	if err := supervise.Failure(shown(c.line), res.Code, err); err != nil {
		return err
	}
	e.log.Info("command is done", "command", shown(c.line))
	return nil
}

// onOutcome is what the -exec command thinks of the files: those that it refuses
// are restored, and rendered again later.
func (e *engine) onOutcome(v supervise.Outcome) {
	if v.Err == nil {
		e.journal.accept(v.Seq)
		if v.Seq == e.execSeq {
			e.finishSlot(nil)
		}
		return
	}
	if v.Seq != e.execSeq {
		return // it is about files that are not there any more
	}
	e.finishSlot(v.Err)
	again := time.Now().Add(v.Delay)
	last := v.Failures >= maxRefusals
	restored := e.restoreAll(again, v.Err.Error(), last)
	if restored {
		e.exec.Tell(supervise.Order{Kind: supervise.Fallback, Seq: v.Seq})
	}
	if restored && last {
		e.execRetry = time.Time{}
		e.log.Error(knownBad, "error", v.Err, "times", maxRefusals)
		return
	}
	text := staysText
	if restored {
		text = restoredText
	}
	e.execRetry = again
	e.log.Error(text, "error", v.Err, "retry_in", v.Delay)
}

// What is said of a command that has failed.
const (
	staysText    = "command failed, the new files stay; running it again, or on new data"
	restoredText = "command failed, the files before are restored; rendering again, or on new data"
	knownBad     = "command failed, the files before are restored; it has failed too often on this content, which is tried again only on new data or a reload"
)

// execOnce is -exec with Once: one attempt, and one more on what was there before
// if the first is refused. The code of the first is what counts.
func (e *engine) execOnce(ctx context.Context) {
	early, err := e.exec.Once(ctx)
	if err == nil {
		return
	}
	e.fail(err)
	if !early || !e.restoreAll(time.Time{}, "", false) || ctx.Err() != nil {
		return
	}
	e.log.Error("command failed, the files before are restored; running it once on them", "error", err)
	if _, err := e.exec.Once(ctx); err != nil {
		e.log.Error("command failed on the restored files too", "error", err)
	}
}
