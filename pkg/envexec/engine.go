package envexec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/dataset"
	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/render"
	"github.com/muster-dev/muster/pkg/retry"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/watch"
)

// engine is the loop and what it owns. Everything but what is atomic or safe by
// itself belongs to the goroutine in run.
type engine struct {
	cfg     Config
	log     *slog.Logger
	tool    *Tool
	sources []source
	set     *dataset.Set     // of what the sources need
	sup     *supervise.Bound // nil: no child

	vars    []env.Var // that the child has, or will start with
	started bool      // it was told to start
	environ atomic.Pointer[[]string]
	given   atomic.Pointer[[]string] // what of it the child has

	slots *rollout.Queue // nil: nobody to wait for

	since, due time.Time // of a change that is not followed yet; zero: none
	changes    int
	changedAt  time.Time
	unwritten  int    // how often in a row the file could not be written
	lastError  string // "": the data make an environment
}

func newEngine(cfg Config) (*engine, error) {
	sources, err := cfg.Plan.sources()
	if err != nil {
		return nil, cli.Exit(cli.ExitConfig, err)
	}
	e := &engine{
		cfg: cfg, log: cfg.Logger, sources: sources,
		set: dataset.New(dataset.Config{Cache: cfg.Cache, Fresh: cfg.Once, Watch: watch.Config{
			Client: cfg.Client, Logger: cfg.Logger, Retry: cfg.Retry,
			BlockWait: cfg.BlockWait, MaxStale: cfg.MaxStale,
		}}),
	}
	if cfg.Rollout != nil {
		e.slots = rollout.NewQueue(cfg.Rollout, cfg.Logger)
	}
	if len(cfg.Child.Command) > 0 {
		child := cfg.Child
		if cfg.OnChange != Signal {
			child.ReloadSignal = 0
		}
		e.sup = supervise.NewBound(child, supervise.Config{
			Logger: cfg.Logger, Signals: cfg.Signals, Shell: cfg.Shell, Env: e.give,
			Notice: func(text string) { e.log.Warn(text) }, OnStart: e.onStart(),
			Stdout: cfg.Stdout, Stderr: cfg.Stderr,
		})
	}
	return e, nil
}

// give is the environment of a child that starts.
func (e *engine) give() []string {
	now := e.environ.Load()
	e.given.Store(now)
	return *now
}

// onStart is called whenever the child has started.
func (e *engine) onStart() func() {
	var once sync.Once
	return func() {
		if e.cfg.OnReady != nil {
			once.Do(e.cfg.OnReady)
		}
	}
}

// run is the loop. It returns when the tool ends.
func (e *engine) run(ctx context.Context) (err error) {
	inner, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() {
		if e.sup.Status().Stopped {
			cancel(nil)
		}
		cancel(rollout.Over(err))
		wg.Wait()
	}()
	following, unfollow := context.WithCancel(inner)
	defer unfollow()
	wg.Go(func() { e.set.Run(following) })
	if e.sup != nil {
		wg.Go(func() { e.sup.Run(inner) })
	}
	if e.slots != nil {
		wg.Go(func() { e.slots.Run(inner, e.behind, e.inSlot) })
	}
	var timeout <-chan time.Time
	if e.cfg.Once && e.cfg.Timeout > 0 {
		timeout = time.After(e.cfg.Timeout)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	e.set.Load()
	defer func() { e.set.Flush(e.complete()) }()
	e.follow()
	err = e.consider(ctx, time.Now())
	for err == nil && !(e.cfg.Once && e.started) {
		e.publish()
		timer.Reset(time.Until(e.wakeAt()))
		select {
		case <-ctx.Done():
			return e.interrupted()
		case frame := <-e.set.Frames():
			err = e.take(ctx, frame)
		case err = <-e.set.Ended():
			if err != nil {
				return cli.Exit(cli.ExitRun, err)
			}
			return e.interrupted()
		case over := <-e.sup.Ends():
			return over
		case plan := <-e.tool.next:
			err = e.replan(ctx, plan)
		case <-timeout:
			return e.timedOut()
		case <-timer.C:
			err = e.onTimer(ctx, time.Now())
		}
	}
	if err != nil {
		return err
	}
	e.publish()
	unfollow()
	return e.sup.Await(ctx, e.started)
}

// follow asks for what the sources need.
func (e *engine) follow() {
	wanted := map[watch.Request]bool{}
	for _, s := range e.sources {
		wanted[s.query] = true
	}
	e.set.Follow(wanted)
}

// take keeps a frame's results, and considers what they change.
func (e *engine) take(ctx context.Context, frame watch.Frame) error {
	now := time.Now()
	e.set.Accept(frame)
	if e.started && e.since.IsZero() {
		e.since = now
	}
	if e.started {
		e.due = e.pace().Due(e.since, now, time.Time{})
		if e.due.After(now) {
			return nil // onTimer considers it
		}
	}
	return e.consider(ctx, now)
}

func (e *engine) pace() watch.Pace {
	return watch.Pace{Wait: e.cfg.Wait, Jitter: watch.NodeJitter(e.cfg.Jitter)}
}

// complete says whether every source has an answer.
func (e *engine) complete() bool {
	for _, s := range e.sources {
		if _, ok := e.set.Results[s.query]; !ok {
			return false
		}
	}
	return true
}

// wakeAt is when the loop has something to do without news.
func (e *engine) wakeAt() time.Time {
	next := time.Now().Add(time.Hour)
	for _, t := range []time.Time{e.due, e.set.NextWake()} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

func (e *engine) onTimer(ctx context.Context, now time.Time) error {
	if loaded := e.set.Tend(e.complete(), !e.started); loaded != nil {
		if savedAt, yes := e.set.FromDisk(); yes && e.complete() {
			e.log.Warn("no agent answers: starting with the data kept on disk, saved " + savedAt.Format(time.RFC3339))
		}
		if err := e.consider(ctx, now); err != nil {
			return err
		}
	}
	if !e.due.IsZero() && !now.Before(e.due) {
		return e.consider(ctx, now)
	}
	return nil
}

// consider makes the variables and, if they are others than before, follows the
// change.
func (e *engine) consider(ctx context.Context, now time.Time) error {
	e.since, e.due = time.Time{}, time.Time{}
	vars, missing, err := build(e.sources, e.cfg.Plan.Rules, e.set.Results)
	switch {
	case len(missing) > 0:
		return nil
	case err != nil && e.cfg.Once:
		return cli.Exit(cli.ExitRun, err)
	case err != nil && e.started:
		e.trouble("the data make no environment, leaving the child as it is", err)
		return nil
	case err != nil:
		e.trouble("the data make no environment, waiting for others", err)
		return nil
	}
	environ, err := cli.Env{Custom: e.cfg.Plan.Custom}.Build(e.cfg.Plan.Own, env.Environ(vars))
	if err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	if before := e.environ.Load(); e.started && slices.Equal(*before, environ) {
		e.vars, e.lastError, e.unwritten = vars, "", 0
		return nil
	}
	if err := e.writeFile(ctx, vars); err != nil {
		if !e.started && (e.cfg.Once || e.sup == nil) {
			return cli.Exit(cli.ExitRun, err)
		}
		// The child would read the old file: it is told when there is the new one.
		e.due = now.Add(retry.Exponential(minFileBackoff, maxFileBackoff, e.unwritten))
		e.unwritten++
		e.trouble("cannot write the variables, leaving the child as it is and trying again", err)
		return nil
	}
	e.unwritten = 0
	first := !e.started
	e.vars, e.started, e.lastError = vars, true, ""
	e.environ.Store(&environ)
	if !first {
		e.changes++
		e.changedAt = now
	}
	switch {
	case first:
		e.sup.Changed()
	case e.cfg.OnChange == Nothing:
		e.log.Info("the variables have changed, leaving the child as it is")
	default:
		e.change()
	}
	return nil
}

// A file that could not be written is tried again after 1, 2, 4 ... 64 s.
const (
	minFileBackoff = time.Second
	maxFileBackoff = 64 * time.Second
)

// writeFile keeps the file that holds the variables.
func (e *engine) writeFile(ctx context.Context, vars []env.Var) error {
	if e.cfg.EnvFile.Path == "" {
		return nil
	}
	text, err := env.Print(vars, e.cfg.EnvFile.Format)
	if err != nil {
		return err
	}
	_, err = render.Write(ctx, render.File{Path: e.cfg.EnvFile.Path, Content: text, Mode: 0o600}, render.Check{})
	return err
}

// replan goes on with another plan.
func (e *engine) replan(ctx context.Context, p Plan) error {
	sources, err := p.sources()
	if err != nil {
		e.trouble("cannot use the new sources, keeping the ones before", err)
		return nil
	}
	e.cfg.Plan, e.sources = p, sources
	e.follow()
	return e.consider(ctx, time.Now())
}

// trouble says what is wrong, once.
func (e *engine) trouble(what string, err error) {
	if e.lastError == err.Error() {
		return
	}
	e.lastError = err.Error()
	e.log.Error(what, "error", err)
}

// interrupted is the end by ctx, which Once did not mean to have before it was done.
func (e *engine) interrupted() error {
	if e.cfg.Once && !e.started {
		return cli.Exit(cli.ExitInterrupted, errors.New("interrupted before all was done"))
	}
	return nil
}

// timedOut says what Once has waited for in vain.
func (e *engine) timedOut() error {
	_, missing, _ := build(e.sources, e.cfg.Plan.Rules, e.set.Results)
	err := fmt.Errorf("timed out after %s, still waiting for %s", e.cfg.Timeout, strings.Join(missing, ", "))
	for _, why := range e.set.Failing() {
		err = fmt.Errorf("%w: %w", err, why)
		break
	}
	return cli.Exit(cli.ExitRun, err)
}
