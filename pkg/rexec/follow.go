package rexec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

const (
	// askAgain is how long output that must be there may be on its way before it is
	// asked for again, and lateOutput before it is given up.
	askAgain   = time.Second
	lateOutput = 10 * time.Second

	pollWait = time.Minute
)

// follower follows one job. Its state belongs to the goroutine of Follow but for
// have, which the goroutine that reads output begins each stream with.
type follower struct {
	client *client.Client
	id     string
	show   Show

	jobs   chan *api.ExecJob
	output chan api.ExecOutput
	again  chan struct{} // ask for output again; has room for one
	failed chan error
	notes  chan note

	mu   sync.Mutex
	have map[string]uint64 // chunks of each target that are shown

	shown map[string]string // the state of each target that is shown
	late  time.Time         // since when output is missing that must be there
}

// note is what a goroutine that reads has to say.
type note struct {
	level slog.Level
	text  string
}

// Follow shows what becomes of a job until it is over. If own, it stops the job when
// ctx ends, and returns ctx's cause as the error once that is done. Otherwise it
// shows the output from the beginning.
func Follow(ctx context.Context, c *client.Client, id string, own bool, show Show) (Result, error) {
	f := &follower{
		client: c, id: id, show: show,
		jobs: make(chan *api.ExecJob), output: make(chan api.ExecOutput), again: make(chan struct{}, 1), failed: make(chan error, 1),
		notes: make(chan note, 1),
		have:  map[string]uint64{}, shown: map[string]string{},
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var readers sync.WaitGroup
	defer readers.Wait()
	defer end()
	readers.Go(func() { f.pollJob(life) })
	readers.Go(func() { f.readOutput(life, !own) })
	return f.loop(ctx, own)
}

func (f *follower) loop(ctx context.Context, own bool) (Result, error) {
	tick := time.NewTicker(askAgain / 4)
	defer tick.Stop()
	var job *api.ExecJob
	var stopped <-chan time.Time
	stop := ctx.Done()
	for {
		select {
		case job = <-f.jobs:
		case out := <-f.output:
			f.take(out)
		case err := <-f.failed:
			return f.result(job), err
		case n := <-f.notes:
			f.show.Log(n.level, n.text)
		case <-tick.C:
		case <-stop:
			if !own {
				return f.result(job), context.Cause(ctx)
			}
			f.stopJob(ctx)
			stop, stopped = nil, time.After(stopTime)
		case <-stopped:
			return f.result(job), fmt.Errorf("%w; not every node has confirmed within %s that it has ended", context.Cause(ctx), stopTime)
		}
		if job != nil && f.news(job) {
			return f.result(job), context.Cause(ctx)
		}
	}
}

// news shows what is new of the targets, and says whether all is over and shown.
func (f *follower) news(job *api.ExecJob) bool {
	missing := false
	over := !job.Ended.IsZero()
	for _, t := range job.Targets {
		if f.shown[t.Node] == t.State {
			continue
		}
		if t.State == api.ExecWaiting || t.State == api.ExecCalled {
			continue // no news
		}
		f.mu.Lock()
		have := f.have[t.Node]
		f.mu.Unlock()
		if have < t.Chunks && api.ExecFinal(t.State) {
			if f.late.IsZero() || time.Since(f.late) < lateOutput {
				missing = true
				continue
			}
			f.show.Log(slog.LevelWarn, fmt.Sprintf("some output of %s could not be fetched", t.Node))
		}
		f.shown[t.Node] = t.State
		f.show.Target(t)
	}
	switch {
	case !missing:
		f.late = time.Time{}
	case f.late.IsZero():
		f.late = time.Now()
	case time.Since(f.late) > askAgain:
		select {
		case f.again <- struct{}{}:
		default:
		}
	}
	return over && !missing
}

// take shows output, whose beginning may be there already.
func (f *follower) take(out api.ExecOutput) {
	f.mu.Lock()
	have := f.have[out.Node]
	f.mu.Unlock()
	for i, c := range out.Chunks {
		if out.Seq+uint64(i) == have {
			f.show.Output(out.Node, c.Stream, c.Data)
			have++
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have[out.Node] = have
}

func (f *follower) stopJob(ctx context.Context) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := patiently(asking, f.show, func() error { return f.client.ExecStop(asking, f.id, nil) }); err != nil {
		f.show.Log(slog.LevelWarn, fmt.Sprintf("could not stop job %s: %v", f.id, err))
	}
}

// note has the loop say something; the methods of Show are for its goroutine alone.
func (f *follower) note(ctx context.Context, level slog.Level, format string, args ...any) {
	select {
	case f.notes <- note{level, fmt.Sprintf(format, args...)}:
	case <-ctx.Done():
	}
}

// pollJob hands on each new state of the job.
func (f *follower) pollJob(ctx context.Context) {
	var index uint64
	pause, said := firstRetry, false
	for {
		job, meta, err := f.client.ExecJob(ctx, f.id, &client.Options{Index: index, Wait: pollWait})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !said {
				f.note(ctx, slog.LevelWarn, "could not ask for job %s: %v; trying again", f.id, err)
				said = true
			}
			index = 0
			if !rest(ctx, pause) {
				return
			}
			pause = min(2*pause, lastRetry)
			continue
		case job == nil:
			f.failed <- fmt.Errorf("there is no job %s: jobs are forgotten an hour after their end", f.id)
			return
		}
		index, pause, said = meta.Index, firstRetry, false
		select {
		case f.jobs <- job:
		case <-ctx.Done():
			return
		}
	}
}

// readOutput reads the output stream, from another leader when it breaks. all
// asks for what was written before, too; the first stream of a job that has just
// begun need not.
func (f *follower) readOutput(ctx context.Context, all bool) {
	for pause := firstRetry; ctx.Err() == nil; all = true {
		var have map[string]uint64
		if all {
			have = f.wanted(ctx)
		}
		began := time.Now()
		reading, cancel := context.WithCancel(ctx)
		left := make(chan struct{})
		go func() {
			defer close(left)
			select {
			case <-f.again:
				cancel()
			case <-reading.Done():
			}
		}()
		err := f.client.ExecOutput(reading, f.id, have, nil, func(out api.ExecOutput) bool {
			select {
			case f.output <- out:
				return true
			case <-ctx.Done():
				return false
			}
		})
		cancel()
		<-left
		f.note(ctx, slog.LevelDebug, "asking for the output of job %s again: %v", f.id, err)
		if errors.Is(err, context.Canceled) || time.Since(began) > lastRetry {
			pause = firstRetry
		}
		rest(ctx, pause)
		pause = min(2*pause, lastRetry)
	}
}

// wanted says how much is there of each target.
func (f *follower) wanted(ctx context.Context) map[string]uint64 {
	job, _, err := f.client.ExecJob(ctx, f.id, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	have := maps.Clone(f.have)
	if err != nil || job == nil {
		return have
	}
	for _, t := range job.Targets {
		if n := have[t.Node]; !api.ExecFinal(t.State) || n < t.Chunks {
			have[t.Node] = n
		}
	}
	return have
}

func (f *follower) result(job *api.ExecJob) Result {
	out := Result{ID: f.id, States: map[string]int{}}
	if job == nil {
		return out
	}
	out.Total, out.Stopped = len(job.Targets), job.Stopped
	for _, t := range job.Targets {
		out.States[t.State]++
	}
	return out
}
