// Package exec is remote execution on the agent side. A node's part: exec.go
// finds and claims jobs, run.go runs them, policy.go and seen.go say what others
// may run here, spool.go keeps the output. The leader's part: relay.go passes
// output on to those who read it.
//
// What it promises:
//
//   - A node runs what its own configuration allows and nothing else, each job
//     at most once. What it runs ends with the agent. The result is reported
//     until the leader has recorded it.
//
//   - Output is kept where it was written, within limits, and sent on request:
//     neither a slow reader nor a change of leader loses any.
//
// All goroutines of a Runner end before its Run returns.
package exec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/broadcast"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
)

const (
	// MaxRuns limits the runs at a time on a node; more wait.
	MaxRuns = 64
	// MaxSpools limits the runs whose output is kept; the oldest is dropped first.
	MaxSpools = 256

	// spoolTTL is how long output is kept, from the beginning of its run. Its job
	// can be read until an hour after the job's end.
	spoolTTL = 24 * time.Hour

	// killAfter is how long after SIGTERM a command gets SIGKILL.
	killAfter = 5 * time.Second
	// reportGrace is how long an agent that stops tries to report.
	reportGrace = 2 * time.Second
	// maxPush limits the output of one request, in bytes.
	maxPush = 64 << 10

	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

func newBackoff() retry.Backoff { return retry.Backoff{First: minBackoff, Max: maxBackoff} }

// Config is what a Runner needs from its agent.
type Config struct {
	Node    string
	DataDir string         // "": a temporary directory
	Client  *client.Client // for this agent's API, with the internal routes
	Policy  Policy
	Logger  *slog.Logger
}

// Runner runs this node's part of jobs.
//
// A run is claimed in the raft log before it begins, so that none begins twice,
// not even after a restart of the agent. Its output is spooled here and sent on
// request. Its result is reported until the leader has recorded it.
type Runner struct {
	cfg    Config
	leader leader
	policy atomic.Pointer[Policy]
	claim  string        // identifies this process in its claims
	look   chan struct{} // holds at most one signal: query for calls now
	slots  chan struct{}
	events chan api.Event // orders by the reference's tool
	work   sync.WaitGroup
	dir    string
	guards proc.Pool // keeps one, so that the next run starts at once
	seen   *seen

	mu      sync.Mutex
	runs    map[string]*run  // by job
	spools  []*run           // those with output, oldest first
	spooled broadcast.Signal // spools has grown
}

// run is one job at this node.
type run struct {
	job    string
	ctx    context.Context // ends when the run is stopped
	stop   context.CancelFunc
	spool  *spool        // set before the run is among Runner.spools
	resend chan struct{} // holds at most one signal: a reader wants output again
	// send sends the output until all has been sent; running ends with the command.
	send      func(running context.Context)
	spooledAt time.Time
}

// New makes a runner. It does nothing until Run.
func New(cfg Config) *Runner {
	r := &Runner{
		cfg: cfg, leader: leader{cfg.Client}, claim: rand.Text(),
		look: make(chan struct{}, 1), slots: make(chan struct{}, MaxRuns), events: make(chan api.Event, maxConsulQueue),
		guards: proc.Pool{Max: 1}, runs: map[string]*run{},
	}
	r.policy.Store(&cfg.Policy)
	return r
}

// SetPolicy replaces the policy for runs that begin from now on.
func (r *Runner) SetPolicy(p Policy) { r.policy.Store(&p) }

// Look makes the runner query for calls at once. It does not wait.
func (r *Runner) Look() {
	select {
	case r.look <- struct{}{}:
	default:
	}
}

// Run runs jobs until ctx ends. Then it kills what runs, and waits for its end.
func (r *Runner) Run(ctx context.Context) (err error) {
	if r.dir, err = r.makeDir(); err != nil {
		return err
	}
	scratch := filepath.Join(r.dir, "run")
	if r.cfg.DataDir == "" {
		scratch = r.dir // makeDir has made all of it
	}
	defer os.RemoveAll(scratch)
	if r.seen, err = loadSeen(filepath.Join(r.dir, "seen.json"), time.Now()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer r.guards.Close()
	defer r.closeSpools()
	defer r.work.Wait()
	defer cancel()
	r.work.Go(func() { r.serveWanted(ctx) })
	r.work.Go(func() { r.serveConsul(ctx) })
	r.follow(ctx)
	return nil
}

// makeDir makes the directory for this agent's runs. It removes the files of an
// earlier process: nobody can read them any more.
func (r *Runner) makeDir() (string, error) {
	dir := filepath.Join(r.cfg.DataDir, "exec")
	if r.cfg.DataDir == "" {
		temp, err := os.MkdirTemp("", "muster-exec-")
		if err != nil {
			return "", fmt.Errorf("make a directory for remote execution: %w", err)
		}
		dir = temp
	}
	if err := os.RemoveAll(filepath.Join(dir, "run")); err != nil {
		return "", fmt.Errorf("clear the directory for remote execution: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		return "", fmt.Errorf("make a directory for remote execution: %w", err)
	}
	return dir, nil
}

// follow reads this node's calls with a blocking query and handles them.
func (r *Runner) follow(ctx context.Context) {
	var index uint64
	backoff := newBackoff()
	for ctx.Err() == nil {
		calls, next, err := r.calls(ctx, index)
		switch {
		case err == nil:
			backoff.Reset()
			index = next
			r.handle(ctx, calls)
		case ctx.Err() != nil:
		case err == errLook:
			index = 0
		default:
			index = 0 // the next leader may be another: read everything
			pause := backoff.Next()
			r.cfg.Logger.Debug("could not look for jobs to run; trying again", "error", err, "in", pause)
			_ = retry.Sleep(ctx, pause) // an error is ctx's
		}
	}
}

// errLook says that a query was cancelled by Look.
var errLook = errors.New("look again")

// calls returns this node's calls, once they have changed since index. Look
// cancels a query that waits, with errLook.
func (r *Runner) calls(ctx context.Context, index uint64) ([]api.ExecCall, uint64, error) {
	query, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	release := onSignal(r.look, func() {
		if index > 0 {
			cancel(errLook)
		}
	})
	calls, next, err := r.leader.calls(query, r.cfg.Node, index)
	release()
	if err != nil && context.Cause(query) == errLook {
		err = errLook
	}
	return calls, next, err
}

// onSignal calls f when ch is ready, until release is called. release waits for f.
func onSignal(ch <-chan struct{}, f func()) (release func()) {
	done, left := make(chan struct{}), make(chan struct{})
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

// handle begins the runs that are called, and stops those that are to stop.
func (r *Runner) handle(ctx context.Context, calls []api.ExecCall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range calls {
		known := r.runs[c.Job]
		switch {
		case known != nil:
			if c.Stop {
				known.stop()
			}
		case c.Stop && c.State == api.ExecCalled:
		case c.State == api.ExecRunning && c.Claim != r.claim:
			n := r.newRun(ctx, c.Job)
			r.work.Go(func() { r.reportLost(ctx, n, c) })
		case c.State == api.ExecCalled:
			n := r.newRun(ctx, c.Job)
			r.work.Go(func() { r.runJob(ctx, n, c) })
		}
	}
}

// newRun adds a run to r.runs. The caller holds r.mu.
func (r *Runner) newRun(ctx context.Context, job string) *run {
	n := &run{job: job, resend: make(chan struct{}, 1)}
	n.ctx, n.stop = context.WithCancel(ctx)
	n.send = func(running context.Context) { r.send(ctx, n, running) }
	r.runs[job] = n
	return n
}

// reportLost reports a run of an earlier process of this agent: its guard has
// killed it.
func (r *Runner) reportLost(ctx context.Context, n *run, c api.ExecCall) {
	defer r.endRun(n)
	r.report(ctx, api.ExecResult{
		Job: c.Job, Node: r.cfg.Node, Claim: c.Claim, State: api.ExecLost,
		Error: "the agent was restarted while it ran",
	})
}

// runJob is one run from its call to its report.
func (r *Runner) runJob(ctx context.Context, n *run, c api.ExecCall) {
	defer r.endRun(n)
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-n.ctx.Done():
		return // it was not claimed, so it has not begun
	}
	result := api.ExecResult{Job: c.Job, Node: r.cfg.Node}
	p, err := r.authorize(c.Request)
	if err != nil {
		r.cfg.Logger.Warn("remote execution refused", "job", c.Job, "why", err)
		result.State, result.Error = api.ExecRefused, err.Error()
		r.report(ctx, result)
		return
	}
	if !r.claimRun(n.ctx, c.Job) {
		return
	}
	result.Claim = r.claim
	r.cfg.Logger.Info("remote execution begins", "job", c.Job, "by", p.order.By, "key", p.signer, "name", p.order.Job,
		"command", strings.Join(p.argv, " "), "script_bytes", len(p.script))
	r.execute(n, p, &result)
	if ctx.Err() != nil {
		result.State, result.Error = api.ExecLost, "the agent was stopped while it ran"
	}
	r.cfg.Logger.Info("remote execution ended", "job", c.Job, "state", result.State, "code", result.Code, "error", result.Error)
	r.report(ctx, result)
}

// authorize makes a plan of a request, as the policy allows. It refuses a signed
// order that was used before.
func (r *Runner) authorize(req api.ExecRequest) (*plan, error) {
	p, err := r.policy.Load().plan(req, time.Now())
	if err != nil || p.signer == "" {
		return p, err
	}
	return p, r.seen.add(p.order.ID, p.order.Expires, time.Now())
}

// claimRun claims a run, and retries until there is an answer: claims are
// idempotent. It returns false if the run must not begin.
func (r *Runner) claimRun(ctx context.Context, job string) bool {
	for backoff := newBackoff(); ; {
		ok, err := r.leader.claim(ctx, job, r.cfg.Node, r.claim)
		if err == nil {
			return ok
		}
		if backoff.Sleep(ctx) != nil {
			return false
		}
	}
}

// report reports a result, and retries until the leader has recorded it. After
// the end of ctx it tries for reportGrace only.
func (r *Runner) report(ctx context.Context, result api.ExecResult) {
	trying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(reportGrace, cancel) })()
	for backoff := newBackoff(); ; {
		err := r.leader.report(trying, result)
		if err == nil || client.IsStatus(err, http.StatusBadRequest) {
			return
		}
		pause := backoff.Next()
		r.cfg.Logger.Debug("could not report; trying again", "job", result.Job, "error", err, "in", pause)
		if retry.Sleep(trying, pause) != nil {
			return
		}
	}
}

// endRun removes a run from r.runs. Its output stays among r.spools.
func (r *Runner) endRun(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.stop()
	delete(r.runs, n.job)
}

// isJob says whether a run is of a job, and not of the reference's protocol.
func (r *Runner) isJob(n *run) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runs[n.job] == n
}

// keepOutput adds a run to r.spools, and drops the oldest where there are too many.
func (r *Runner) keepOutput(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.spooledAt = time.Now()
	r.spools = append(r.spools, n)
	for len(r.spools) > MaxSpools || time.Since(r.spools[0].spooledAt) > spoolTTL {
		old := r.spools[0]
		r.spools = slices.Delete(r.spools, 0, 1)
		old.spool.close()
	}
	r.spooled.Notify()
}

func (r *Runner) closeSpools() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.spools {
		n.spool.close()
	}
	r.spools = nil
}
