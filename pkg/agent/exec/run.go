package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/proc"
)

// errNotStarted is the code of a command that could not be started, as shells
// have it.
const errNotStarted = 127

// execute runs what was agreed to and says in result how it ended.
func (r *Runner) execute(n *run, p *plan, result *api.ExecResult) {
	result.State, result.Code = api.ExecFailed, errNotStarted
	spool, err := newSpool(filepath.Join(r.dir, "run"))
	if err != nil {
		result.Error = err.Error()
		return
	}
	n.spool = spool
	if r.isJob(n) {
		r.keep(n)
	}
	argv := p.argv
	if p.script != nil {
		file, err := r.writeScript(p.script)
		if err != nil {
			result.Error = err.Error()
			return
		}
		defer os.Remove(file)
		// By a shell, which also takes a script without "#!".
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

// supervise starts the command and waits for its end: its own, that of its time,
// or that of the run's life.
func (r *Runner) supervise(n *run, p *plan, argv []string, result *api.ExecResult) error {
	spec := proc.Spec{Argv: argv, Env: append(os.Environ(), "MUSTER_EXEC_ID="+n.job, "MUSTER_EXEC_NODE="+r.cfg.Node)}
	if p.user != "" {
		credential, home, err := credentialOf(p.user)
		if err != nil {
			return err
		}
		spec.Credential, spec.Dir = credential, home
		if info, err := os.Stat(home); err != nil || !info.IsDir() {
			spec.Dir = "/" // users of the system may have none, and login does so too
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

	life := n.life
	if p.timeout > 0 {
		limited, cancel := context.WithTimeout(life, p.timeout)
		defer cancel()
		life = limited
	}
	code, err := child.Wait(life)
	switch {
	case life.Err() == nil:
	case n.life.Err() != nil:
		result.State = api.ExecStopped
		code, err = child.Stop(syscall.SIGTERM, killAfter)
	default:
		result.State = api.ExecTimeout
		code, err = child.Stop(syscall.SIGTERM, killAfter)
	}
	result.Code = code
	if code == 0 && err == nil && life.Err() == nil {
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
			n.spool.fill(stream, ours[i])
		})
	}
	return child, nil
}

// send sends the output of a run as it comes, and the rest of it after running
// has ended. What the leader cannot take for long is left to serveWanted.
func (r *Runner) send(n *run, running context.Context) {
	var next uint64
	for {
		ask := false
		select {
		case <-n.spool.changed:
		case <-n.again:
			ask = true
		case <-running.Done():
			r.sendFrom(n, next, false)
			return
		case <-r.ending:
			return
		}
		next = r.sendFrom(n, next, ask)
	}
}

// sendFrom sends what there is from a number on, and returns the next. With ask it
// also asks the leader what it wants where there is nothing.
func (r *Runner) sendFrom(n *run, next uint64, ask bool) uint64 {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer afterClose(r.ending, cancel)()
	failures := 0
	for {
		chunks, err := n.spool.read(next, pushSize)
		if err != nil || len(chunks) == 0 && !ask {
			return next
		}
		asked, err := r.leader.push(ctx, n.job, r.cfg.Node, next, chunks)
		switch {
		case err == nil && len(chunks) == 0 && asked == next:
			return next
		case err == nil && asked == next:
			if failures++; failures > 3 {
				return next // nobody reads
			}
		case err == nil:
			next, failures = asked, 0
		default:
			if failures++; failures > 10 || !rest(ctx, firstRetry<<min(failures, 6)) {
				return next
			}
		}
	}
}

// serveWanted sends output again to leaders that have readers for it and do not
// have it: those that were not leading when it was sent.
func (r *Runner) serveWanted(ctx context.Context) {
	for ctx.Err() == nil {
		jobs, more := r.spooled()
		if len(jobs) == 0 {
			select {
			case <-more:
			case <-ctx.Done():
			}
			continue
		}
		asking, cancel := context.WithCancel(ctx)
		release := afterClose(more, cancel)
		wanted, err := r.leader.wanted(asking, r.cfg.Node, jobs)
		release()
		interrupted := asking.Err() != nil
		cancel()
		if err != nil && !interrupted {
			rest(ctx, time.Second)
		}
		for _, job := range wanted {
			r.sendAgain(job)
		}
		if len(wanted) > 0 {
			rest(ctx, firstRetry)
		}
	}
}

// spooled lists the jobs whose output is here.
func (r *Runner) spooled() (jobs []string, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.spools {
		jobs = append(jobs, n.job)
	}
	return jobs, r.more
}

func (r *Runner) sendAgain(job string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.spools {
		if n.job != job {
			continue
		}
		if _, runs := r.runs[job]; runs {
			select {
			case n.again <- struct{}{}:
			default:
			}
			return
		}
		r.work.Go(func() { r.sendFrom(n, 0, true) })
		return
	}
}

// afterClose calls f when a channel is closed, until release is called.
func afterClose(ch <-chan struct{}, f func()) (release func()) {
	done := make(chan struct{})
	left := make(chan struct{})
	go func() {
		defer close(left)
		select {
		case <-ch:
			f()
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-left
	}
}
