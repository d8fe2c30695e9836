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
	// resendAfter is how long output of an ended target may be missing before it is
	// requested again, and maxOutputDelay before it is given up.
	resendAfter    = time.Second
	maxOutputDelay = 10 * time.Second

	pollWait = time.Minute
)

// jobReader follows one job. Its state belongs to the goroutine of Follow, except
// have, with which the goroutine that reads output begins each stream.
type jobReader struct {
	client *client.Client
	id     string
	show   Display

	jobs   chan *api.ExecJob
	output chan api.ExecOutput
	resend chan struct{} // holds at most one signal: request the output again
	failed chan error
	logs   chan logLine

	mu   sync.Mutex
	have map[string]uint64 // chunks of each target that are shown

	shown        map[string]string // the state of each target that is shown
	missingSince time.Time         // since when output of an ended target is missing
}

// logLine is a call of Display.Log by another goroutine.
type logLine struct {
	level slog.Level
	text  string
}

// Follow shows a job until it is over. If own is true it stops the job when ctx
// ends, and returns ctx's cause once that is done. If not, it shows the output
// from the beginning.
func Follow(ctx context.Context, c *client.Client, id string, own bool, show Display) (Result, error) {
	f := &jobReader{
		client: c, id: id, show: show,
		jobs: make(chan *api.ExecJob), output: make(chan api.ExecOutput), resend: make(chan struct{}, 1), failed: make(chan error, 1),
		logs: make(chan logLine, 1),
		have: map[string]uint64{}, shown: map[string]string{},
	}
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	readers.Go(func() { f.pollJob(reading) })
	readers.Go(func() { f.readOutput(reading, !own) })
	return f.loop(ctx, own)
}

func (f *jobReader) loop(ctx context.Context, own bool) (Result, error) {
	tick := time.NewTicker(resendAfter / 4)
	defer tick.Stop()
	var job *api.ExecJob
	var stopped <-chan time.Time
	stop := ctx.Done()
	for {
		select {
		case job = <-f.jobs:
		case out := <-f.output:
			f.showOutput(out)
		case err := <-f.failed:
			return f.result(job), err
		case l := <-f.logs:
			f.show.Log(l.level, l.text)
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
		if job != nil && f.update(job) {
			return f.result(job), context.Cause(ctx)
		}
	}
}

// update shows the targets whose state has changed. It returns true once the job
// has ended and all is shown.
func (f *jobReader) update(job *api.ExecJob) bool {
	missing := false
	ended := !job.Ended.IsZero()
	for _, t := range job.Targets {
		if f.shown[t.Node] == t.State {
			continue
		}
		if t.State == api.ExecWaiting || t.State == api.ExecCalled {
			continue // not shown
		}
		f.mu.Lock()
		have := f.have[t.Node]
		f.mu.Unlock()
		if have < t.Chunks && api.ExecFinal(t.State) {
			if f.missingSince.IsZero() || time.Since(f.missingSince) < maxOutputDelay {
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
		f.missingSince = time.Time{}
	case f.missingSince.IsZero():
		f.missingSince = time.Now()
	case time.Since(f.missingSince) > resendAfter:
		select {
		case f.resend <- struct{}{}:
		default:
		}
	}
	return ended && !missing
}

// showOutput shows output, of which some may have been shown already.
func (f *jobReader) showOutput(out api.ExecOutput) {
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

func (f *jobReader) stopJob(ctx context.Context) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := retryWithoutLeader(asking, f.show, func() error { return f.client.ExecStop(asking, f.id, nil) }); err != nil {
		f.show.Log(slog.LevelWarn, fmt.Sprintf("could not stop job %s: %v", f.id, err))
	}
}

// log makes the loop call Display.Log: the methods of Display are called by its goroutine
// only.
func (f *jobReader) log(ctx context.Context, level slog.Level, format string, args ...any) {
	select {
	case f.logs <- logLine{level, fmt.Sprintf(format, args...)}:
	case <-ctx.Done():
	}
}

// pollJob sends each new state of the job to the loop.
func (f *jobReader) pollJob(ctx context.Context) {
	var index uint64
	backoff, logged := newBackoff(), false
	for {
		job, meta, err := f.client.ExecJob(ctx, f.id, &client.Options{Index: index, Wait: pollWait})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !logged {
				f.log(ctx, slog.LevelWarn, "could not ask for job %s: %v; trying again", f.id, err)
				logged = true
			}
			index = 0
			if backoff.Sleep(ctx) != nil {
				return
			}
			continue
		case job == nil:
			f.failed <- fmt.Errorf("there is no job %s: jobs are forgotten an hour after their end", f.id)
			return
		}
		index, logged = meta.Index, false
		backoff.Reset()
		select {
		case f.jobs <- job:
		case <-ctx.Done():
			return
		}
	}
}

// readOutput reads the output stream, and opens another one when it breaks. With
// all the first stream also requests what was written before, which that of a new
// job need not.
func (f *jobReader) readOutput(ctx context.Context, all bool) {
	for backoff := newBackoff(); ctx.Err() == nil; all = true {
		var have map[string]uint64
		if all {
			have = f.position(ctx)
		}
		began := time.Now()
		reading, cancel := context.WithCancel(ctx)
		left := make(chan struct{})
		go func() {
			defer close(left)
			select {
			case <-f.resend:
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
		f.log(ctx, slog.LevelDebug, "asking for the output of job %s again: %v", f.id, err)
		if errors.Is(err, context.Canceled) || time.Since(began) > maxBackoff {
			backoff.Reset()
		}
		_ = backoff.Sleep(ctx) // an error is ctx's
	}
}

// position returns how many chunks of each target have been shown. It names the
// targets of which there may be more.
func (f *jobReader) position(ctx context.Context) map[string]uint64 {
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

func (f *jobReader) result(job *api.ExecJob) Result {
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
