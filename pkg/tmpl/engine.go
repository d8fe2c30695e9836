package tmpl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/dataset"
	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/watch"
)

// engine is the loop and what it owns. Everything but exec's and watcher's
// insides belongs to the goroutine in run.
type engine struct {
	cfg    Config
	log    *slog.Logger
	reload <-chan struct{}

	units   []*unit
	files   *files
	set     *dataset.Set     // of what the templates ask for
	exec    *supervise.Rerun // nil: none
	journal *journal
	notices *notices

	mu       sync.Mutex // of writes to units and complete, which Status reads
	complete bool       // every unit has been rendered once
	first    error      // Once: the first failure, which becomes the exit code
	nextLook time.Time

	execSeq   int       // of the files that -exec was last told of
	execRetry time.Time // when it is told again of what it has refused; zero: never

	slots *slotQueue                       // nil: nobody to wait for
	sup   *supervise.Bound                 // nil: none
	next  *atomic.Pointer[reconfiguration] // nil: nobody reconfigures
}

func newEngine(cfg Config, reload <-chan struct{}) *engine {
	e := &engine{
		cfg: cfg, log: cfg.Logger, reload: reload,
		files: newFiles(), journal: newJournal(), notices: &notices{log: cfg.Logger},
	}
	for _, t := range cfg.Templates {
		e.units = append(e.units, &unit{Template: t})
	}
	e.slots = newSlotQueue(cfg.Rollout, cfg.Logger, cfg.Once)
	if cfg.Dry {
		cfg.Cache = watch.CacheConfig{} // it leaves no traces
	}
	e.set = dataset.New(dataset.Config{Cache: cfg.Cache, Fresh: cfg.Once, Watch: watch.Config{
		Client: cfg.Client, Logger: cfg.Logger, Retry: cfg.Retry,
		BlockWait: cfg.BlockWait, MaxStale: cfg.MaxStale,
	}})
	around := supervise.Config{
		Logger: cfg.Logger, Signals: cfg.Signals, Notice: e.notices.say, Shell: cfg.Shell,
		Env: func() []string { return cfg.ChildEnv }, Stdout: cfg.Stdout, Stderr: cfg.Stderr,
	}
	if len(cfg.Supervise.Command) > 0 && !cfg.Dry {
		e.sup = supervise.NewBound(cfg.Supervise, around)
	}
	if len(cfg.Exec.Command) > 0 && !cfg.Dry {
		e.exec = supervise.NewRerun(cfg.Exec, around)
	}
	return e
}

// load reads the templates for the first time.
func (e *engine) load() error {
	for _, u := range e.units {
		if u.Destination == "" && !e.cfg.Dry {
			return cli.Hint(cli.ExitConfig, fmt.Errorf("template %s has no destination", u.Source),
				"write -template source:destination, or print it by -dry")
		}
		if _, err := u.read(e.spew()); err != nil {
			return err
		}
	}
	return nil
}

// spew is where the functions that print for debugging print to.
func (e *engine) spew() io.Writer {
	if e.cfg.Stdout == nil {
		return io.Discard
	}
	return e.cfg.Stdout
}

// run is the loop, after load. It returns when the tool ends.
func (e *engine) run(ctx context.Context) (err error) {
	inner, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() { e.endAll(cancel, err); wg.Wait() }()
	wg.Go(func() { e.set.Run(inner) })
	if e.exec != nil && !e.cfg.Once {
		wg.Go(func() { e.exec.Run(inner) })
	}
	if e.sup != nil {
		wg.Go(func() { e.sup.Run(inner) })
	}
	if e.slots != nil {
		wg.Go(func() { e.slots.run(inner) })
	}

	timer := time.NewTimer(0)
	defer timer.Stop()
	e.set.Load()
	// The end may have come before the first command was done.
	defer func() { e.set.Flush(e.allDone()) }()
	err = e.round(ctx, e.units)
	for err == nil && !e.finished() {
		timer.Reset(time.Until(e.wakeAt()))
		select {
		case <-ctx.Done():
			return e.interrupted()
		case frame := <-e.set.Frames():
			err = e.round(ctx, e.take(frame))
		case err = <-e.set.Ended():
			if err != nil {
				return cli.Exit(cli.ExitRun, err)
			}
			return e.interrupted()
		case over := <-e.sup.Ends():
			return over
		case slot := <-e.acquired():
			err = e.useSlot(ctx, slot)
		case why := <-e.noSlot():
			e.endWithoutSlot(why)
		case v := <-e.exec.Outcomes():
			e.onOutcome(v)
		case <-e.sup.Followed():
			e.onFollowed()
		case <-e.reload:
			err = e.round(ctx, e.reread())
		case <-timer.C:
			now := time.Now()
			err = e.round(ctx, append(e.tendCache(), e.look(now)...))
		}
	}
	if err != nil {
		return err
	}
	if e.exec != nil && e.complete {
		e.execOnce(ctx)
	}
	childEnded, over := e.lastSlot(ctx, cancel)
	if !childEnded {
		over = e.sup.Await(ctx, e.complete)
	}
	e.fail(over)
	if ctx.Err() != nil {
		return e.interrupted()
	}
	return e.first
}

// interrupted is the end by ctx, which Once did not mean to have.
func (e *engine) interrupted() error {
	if e.cfg.Once {
		return errInterrupted
	}
	return nil
}

// take keeps a frame's results, and says which units they concern.
func (e *engine) take(frame watch.Frame) []*unit {
	changed := e.set.Accept(frame)
	return e.unitsWith(func(u *unit) bool {
		concerned := false
		for q := range changed {
			if u.queries[q] {
				u.noteCause(q)
				concerned = true
			}
		}
		return concerned
	})
}

// tendCache stores results that are due, or uses what was stored while no agent answers.
// It returns the units that may be rendered now.
func (e *engine) tendCache() []*unit {
	loaded := e.set.Tend(e.complete, true)
	if len(loaded) == 0 {
		return nil
	}
	savedAt, _ := e.set.FromDisk()
	e.notices.say("no agent answers: rendering from the data kept on disk, saved " + savedAt.Format(time.RFC3339))
	return e.unitsWith(func(u *unit) bool {
		for q := range loaded {
			if u.queries[q] {
				return true
			}
		}
		return false
	})
}

func (e *engine) unitsWith(match func(*unit) bool) []*unit {
	var out []*unit
	for _, u := range e.units {
		if match(u) {
			out = append(out, u)
		}
	}
	return out
}

// reread is SIGHUP: units whose template changed, or that are in trouble.
func (e *engine) reread() []*unit {
	e.log.Info("reading the templates again")
	e.reconfigure()
	return e.unitsWith(func(u *unit) bool {
		changed, err := u.read(e.spew())
		if err != nil {
			e.log.Error("cannot use the template, keeping the one before", "template", u.Source, "error", err)
			return false
		}
		u.transition(eventReread)
		u.rejection, u.lastMessage, u.failures, u.refusedBy = nil, "", 0, nobody
		u.items = 0 // whoever reloads agrees to a loss
		return changed || u.state == stateNew
	})
}

// look reads local files that changed and says which units they concern.
func (e *engine) look(now time.Time) []*unit {
	if now.Before(e.nextLook) {
		return nil
	}
	e.nextLook = now.Add(filePoll)
	changed := e.files.look()
	return e.unitsWith(func(u *unit) bool {
		if !e.cfg.Once && e.sourceChanged(u) {
			return true
		}
		for _, path := range changed {
			if u.paths[path] {
				return true
			}
		}
		return false
	})
}

// wakeAt is when the loop has something to do without news.
func (e *engine) wakeAt() time.Time {
	next := time.Now().Add(time.Hour)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if !e.cfg.Once || len(e.files.known) > 0 {
		sooner(e.nextLook)
	}
	for _, b := range e.bundles() {
		if at, ok := b.dueAt(); ok && !b[0].queued {
			sooner(at)
		}
	}
	if at := e.set.NextWake(); !at.IsZero() {
		sooner(at)
	}
	if !e.execRetry.IsZero() {
		sooner(e.execRetry)
	}
	return next
}

// round executes units, follows what they ask for now, and writes what is due.
func (e *engine) round(ctx context.Context, units []*unit) error {
	asksElse := false
	for _, u := range units {
		changed, err := e.pass(ctx, u)
		if err != nil {
			return err
		}
		asksElse = asksElse || changed
	}
	if asksElse {
		e.follow()
	}
	return e.write(ctx)
}

// pass executes one unit. It says whether the unit asks for other things than
// before; an error ends the tool.
func (e *engine) pass(ctx context.Context, u *unit) (changed bool, err error) {
	p := newPass(e.set.Results, e.files)
	out, execErr := u.parsed.ExecuteWith(ctx, p, &u.memo)
	if ctx.Err() != nil {
		return false, nil
	}
	changed = !maps.Equal(u.queries, p.queries) || !maps.Equal(u.paths, p.paths)
	u.asked(p)
	refused := u.refusedOutput()
	u.out = nil
	switch {
	case execErr != nil && (out.Complete || errors.Is(execErr, funcs.ErrUnsupported)):
		return changed, e.executeFailed(u, execErr)
	case out.Complete && execErr == nil:
		if why := e.guard(u); why != "" {
			return changed, e.withheld(u, why)
		}
		u.pass = passComplete
		if refused != nil && fingerprintOf(refused) == fingerprintOf(out) {
			u.out = refused // as before: new data that change nothing are no new chance
			return changed, nil
		}
		u.out, u.refusedBy, u.refusals = out, nobody, 0
		u.transition(eventOutput)
		u.schedule(e.paceOf(u), time.Now())
	case p.blocked && e.cfg.FailOnMissing:
		u.transition(eventGaveUp)
		return changed, cli.Exit(cli.ExitRun, fmt.Errorf("render %s: there is no %s, and err_on_failed_lookup is set", u.Source, u.waitsFor()))
	default:
		u.pass = passBlocked
		u.transition(eventBlocked)
		if p.blocked && u.news("waiting for "+u.waitsFor()) {
			e.log.Info("template waits for data", "template", u.Source, "data", u.waitsFor())
		}
	}
	return changed, nil
}

// executeFailed decides what a failing template means: the last good file stays
// and new data may help, unless there is none to wait for.
func (e *engine) executeFailed(u *unit, err error) error {
	hopeless := len(u.queries)+len(u.paths) == 0 || errors.Is(err, funcs.ErrUnsupported)
	if u.fatal(hopeless && !u.done && !u.late) || e.cfg.Once {
		u.transition(eventGaveUp)
		return cli.Exit(cli.ExitRun, fmt.Errorf("execute template: %w", err))
	}
	u.pass = passFailed
	u.transition(eventFailed)
	if u.trouble(err.Error()) {
		e.log.Error("template failed, keeping the last good file", "template", u.Source, "file", u.Destination, "error", err)
	}
	return nil
}

// follow asks for exactly what the units want and forgets the rest.
func (e *engine) follow() {
	wanted, paths := map[watch.Request]bool{}, map[string]bool{}
	for _, u := range e.units {
		maps.Copy(wanted, u.queries)
		maps.Copy(paths, u.paths)
	}
	e.files.keep(paths)
	e.set.Follow(wanted)
}

// finished says whether Once has nothing left to do.
func (e *engine) finished() bool {
	if !e.cfg.Once {
		return false
	}
	for _, u := range e.units {
		if !u.done && u.state != stateGaveUp {
			return false
		}
	}
	return true
}

// fail keeps the first error of Once, which main prints, and logs the others.
func (e *engine) fail(err error) {
	switch {
	case err == nil:
	case e.first == nil:
		e.first = err
	default:
		e.log.Error("failed too", "error", err)
	}
}

// timedOut says what Once has waited for in vain.
func (e *engine) timedOut() error {
	for _, u := range e.units {
		if u.done {
			continue
		}
		err := fmt.Errorf("render %s: timed out after %s, still waiting for %s", u.Source, e.cfg.Timeout, u.waitsFor())
		for q, why := range e.set.Failing() {
			if u.queries[q] {
				err = fmt.Errorf("%w: %w", err, why)
				break
			}
		}
		return cli.Exit(cli.ExitRun, err)
	}
	return cli.Exit(cli.ExitRun, fmt.Errorf("timed out after %s", e.cfg.Timeout))
}

// notices logs each text once. Its methods are safe for concurrent use.
type notices struct {
	log    *slog.Logger
	logged sync.Map
}

func (n *notices) say(text string) {
	if _, before := n.logged.LoadOrStore(text, true); !before {
		n.log.Warn(text)
	}
}
