package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
)

// codeNotStarted is the exit code of a command that could not be started, as in
// shells.
const codeNotStarted = 127

// execute runs a plan and writes its end into result.
func (r *Runner) execute(n *run, p *plan, result *api.ExecResult) {
	result.State, result.Code = api.ExecFailed, codeNotStarted
	spool, err := newSpool(filepath.Join(r.dir, "run"))
	if err != nil {
		result.Error = err.Error()
		return
	}
	n.spool = spool
	if r.isJob(n) {
		r.keepOutput(n)
	}
	argv := p.argv
	if p.script != nil {
		file, err := r.writeScript(p.script)
		if err != nil {
			result.Error = err.Error()
			return
		}
		defer os.Remove(file)
		// A shell also runs a script without "#!".
		argv = append([]string{"sh", "-c", `exec "$0" "$@"`, file}, argv...)
	}
	err = r.supervise(n, p, argv, result)
	result.Chunks, result.Truncated = spool.count()
	if err != nil {
		result.Error = err.Error()
		r.cfg.Logger.Warn("remote execution failed", "job", n.job, "error", err)
	}
}

func (r *Runner) writeScript(text []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Join(r.dir, "run"), "script-")
	if err != nil {
		return "", fmt.Errorf("write the script: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o700), f.Close())
	if err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write the script: %w", err)
	}
	return f.Name(), nil
}

// supervise starts the command and waits until it ends, has run for its timeout,
// or is stopped.
func (r *Runner) supervise(n *run, p *plan, argv []string, result *api.ExecResult) error {
	spec := proc.Spec{Argv: argv, Env: append(os.Environ(), "MUSTER_EXEC_ID="+n.job, "MUSTER_EXEC_NODE="+r.cfg.Node)}
	if p.user != "" {
		credential, home, err := credentialOf(p.user)
		if err != nil {
			return err
		}
		spec.Credential, spec.Dir = credential, home
		if info, err := os.Stat(home); err != nil || !info.IsDir() {
			spec.Dir = "/" // a system user may have no home; login does the same
		}
		spec.Env = append(spec.Env, "USER="+p.user, "LOGNAME="+p.user, "HOME="+home)
	}
	var readers sync.WaitGroup
	child, err := r.startChild(n, spec, &readers)
	if err != nil {
		return err
	}
	sending, done := context.WithCancel(context.Background())
	r.work.Go(func() { n.send(sending) })
	defer done()
	defer readers.Wait() // the child's whole tree has ended: so do its pipes

	ctx := n.ctx
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	code, stopped, err := child.Await(ctx, killAfter)
	result.Code = code
	switch {
	case stopped && n.ctx.Err() != nil:
		result.State = api.ExecStopped
	case stopped:
		result.State = api.ExecTimeout
	case code == 0 && err == nil:
		result.State = api.ExecOK
	}
	return err
}

// startChild starts the command with its output on pipes that the spool drains.
func (r *Runner) startChild(n *run, spec proc.Spec, readers *sync.WaitGroup) (*proc.Child, error) {
	var ours, theirs []*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for range 2 {
		read, write, err := os.Pipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		ours, theirs = append(ours, read), append(theirs, write)
	}
	defer closeAll(theirs)
	spec.Stdout, spec.Stderr = theirs[0], theirs[1]
	child, err := r.guards.Start(spec)
	if err != nil {
		closeAll(ours)
		return nil, err
	}
	for i, stream := range []int{api.ExecStdout, api.ExecStderr} {
		readers.Go(func() {
			defer ours[i].Close()
			n.spool.readFrom(stream, ours[i])
		})
	}
	return child, nil
}

// send sends the output of a run as it comes, and the rest of it after running
// has ended. What the leader cannot take for long is left to serveWanted.
func (r *Runner) send(ctx context.Context, n *run, running context.Context) {
	var next uint64
	for {
		ask := false
		select {
		case <-n.spool.changed:
		case <-n.resend:
			ask = true
		case <-running.Done():
			r.sendFrom(ctx, n, next, false)
			return
		case <-ctx.Done():
			return
		}
		next = r.sendFrom(ctx, n, next, ask)
	}
}

// sendFrom sends the chunks from the number next on, and returns the number of the
// chunk that the leader wants then. With ask it asks for that number even if there
// is nothing to send.
func (r *Runner) sendFrom(ctx context.Context, n *run, next uint64, ask bool) uint64 {
	failures := 0
	for {
		chunks, err := n.spool.read(next, maxPush)
		if err != nil || len(chunks) == 0 && !ask {
			return next
		}
		wanted, err := r.leader.push(ctx, n.job, r.cfg.Node, next, chunks)
		switch {
		case err == nil && len(chunks) == 0 && wanted == next:
			return next
		case err == nil && wanted == next:
			if failures++; failures > 3 {
				return next // nobody reads
			}
		case err == nil:
			next, failures = wanted, 0
		default:
			if failures++; failures > 10 || retry.Sleep(ctx, retry.Exponential(minBackoff, maxBackoff, failures)) != nil {
				return next
			}
		}
	}
}

// serveWanted sends output again to a leader that has readers for it and does not
// have it: one that did not lead when the output was sent.
func (r *Runner) serveWanted(ctx context.Context) {
	for ctx.Err() == nil {
		changed := r.spooled.Changed()
		jobs := r.spooledJobs()
		if len(jobs) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		query, cancel := context.WithCancel(ctx)
		release := onSignal(changed, cancel)
		wanted, err := r.leader.wanted(query, r.cfg.Node, jobs)
		release()
		cancelled := query.Err() != nil
		cancel()
		if err != nil && !cancelled {
			_ = retry.Sleep(ctx, time.Second) // an error is ctx's
		}
		for _, job := range wanted {
			r.sendAgain(ctx, job)
		}
		if len(wanted) > 0 {
			_ = retry.Sleep(ctx, minBackoff)
		}
	}
}

// spooledJobs lists the jobs whose output is here.
func (r *Runner) spooledJobs() (jobs []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.spools {
		jobs = append(jobs, n.job)
	}
	return jobs
}

// sendAgain sends the output of a job from its beginning.
func (r *Runner) sendAgain(ctx context.Context, job string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.spools, func(n *run) bool { return n.job == job })
	if i < 0 {
		return
	}
	n := r.spools[i]
	if _, runs := r.runs[job]; !runs {
		r.work.Go(func() { r.sendFrom(ctx, n, 0, true) })
		return
	}
	select {
	case n.resend <- struct{}{}:
	default:
	}
}
