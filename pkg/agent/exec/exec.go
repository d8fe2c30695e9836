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
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/proc"
)

const (
	// MaxRuns is how many runs of jobs go on at once on a node; more wait.
	MaxRuns = 64
	// MaxSpools is how many runs' output is kept; the oldest go first.
	MaxSpools = 256

	// keptSpool is how long output is kept, from the run's beginning: its job can
	// be asked for an hour after its end.
	keptSpool = 24 * time.Hour

	// killAfter is what a run has left to live once it was told to end.
	killAfter = 5 * time.Second
	// farewell is how long an agent that stops tries to report.
	farewell = 2 * time.Second
	// pushSize is about how much output is sent at once.
	pushSize = 64 << 10

	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Config is what the runner needs of the agent.
type Config struct {
	Node    string
	DataDir string         // "" keeps what is to be kept in a temporary directory
	Client  *client.Client // reaches what is on the server port only
	API     *client.Client // reaches this agent's API
	Policy  Policy
	Logger  *slog.Logger
}

// Runner runs this node's part of jobs.
//
// A run is claimed in the log before it begins, so that none begins twice, not
// even when the agent is restarted. What it writes is spooled here and sent on
// request; how it ended is reported until the leader has taken note.
type Runner struct {
	cfg    Config
	leader leader
	policy atomic.Pointer[Policy]
	claim  string      // in the claims of this life of the agent
	kick   chan string // has room for one: look for calls now
	slots  chan struct{}
	events chan api.Event // orders by the reference's tool
	work   sync.WaitGroup
	dir    string
	guards proc.Pool // one is kept, so that the next run starts at once
	seen   *seen
	ending <-chan struct{} // closed when Run's context has ended

	mu     sync.Mutex
	runs   map[string]*run // by job
	spools []*run          // those with output, oldest first
	more   chan struct{}   // closed when spools has changed
}

// run is one job at this node.
type run struct {
	job   string
	life  context.Context // ends when it is stopped
	stop  context.CancelFunc
	spool *spool        // set before the run is kept
	again chan struct{} // has room for one: somebody wants output again
	// send takes the output where it is wanted, until all is there; running ends
	// with the command.
	send func(running context.Context)
	kept time.Time
}

// New makes a runner. It does nothing until Run.
func New(cfg Config) *Runner {
	r := &Runner{
		cfg: cfg, leader: leader{cfg.Client}, claim: rand.Text(),
		kick: make(chan string, 1), slots: make(chan struct{}, MaxRuns), events: make(chan api.Event, maxConsulQueue), guards: proc.Pool{Max: 1},
		runs: map[string]*run{}, more: make(chan struct{}),
	}
	r.policy.Store(&cfg.Policy)
	return r
}

// SetPolicy makes another policy hold for what begins from now on.
func (r *Runner) SetPolicy(p Policy) { r.policy.Store(&p) }

// Look makes the runner look for calls, because there may be one. It returns at
// once.
func (r *Runner) Look() {
	select {
	case r.kick <- "":
	default:
	}
}

// Run runs jobs until ctx ends; then it kills what runs, and waits for it.
func (r *Runner) Run(ctx context.Context) (err error) {
	if r.dir, err = r.makeDir(); err != nil {
		return err
	}
	scratch := filepath.Join(r.dir, "run")
	if r.cfg.DataDir == "" {
		scratch = r.dir // all of it was made for this run
	}
	defer os.RemoveAll(scratch)
	if r.seen, err = loadSeen(filepath.Join(r.dir, "seen.json"), time.Now()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	r.ending = ctx.Done()
	defer r.guards.Close()
	defer r.closeSpools()
	defer r.work.Wait()
	defer cancel()
	r.work.Go(func() { r.serveWanted(ctx) })
	r.work.Go(func() { r.serveConsul(ctx) })
	r.follow(ctx)
	return nil
}

// makeDir makes the directory for this agent's runs. What an agent before left in
// it is of no use: nobody can ask for it.
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

// follow looks for calls, by a query that waits for the next change of them.
func (r *Runner) follow(ctx context.Context) {
	var index uint64
	pause := firstRetry
	for ctx.Err() == nil {
		calls, next, err := r.ask(ctx, index)
		switch {
		case err == nil:
			pause = firstRetry
			index = next
			r.take(ctx, calls)
		case ctx.Err() != nil:
		case context.Cause(ctx) == nil && err == errLook:
			index = 0
		default:
			index = 0 // another leader, perhaps: look at everything
			r.cfg.Logger.Debug("could not look for jobs to run; trying again", "error", err, "in", pause)
			rest(ctx, pause)
			pause = min(2*pause, lastRetry)
		}
	}
}

// errLook says that a query was left because there is something to see.
var errLook = fmt.Errorf("look again")

func (r *Runner) ask(ctx context.Context, index uint64) ([]api.ExecCall, uint64, error) {
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	left := make(chan struct{})
	go func() {
		defer close(left)
		select {
		case <-r.kick:
			if index > 0 {
				cancel(errLook)
			}
		case <-done:
		}
	}()
	calls, next, err := r.leader.calls(asking, r.cfg.Node, index)
	close(done)
	<-left
	if err != nil && context.Cause(asking) == errLook {
		err = errLook
	}
	return calls, next, err
}

// take begins what is called, and ends what is to end.
func (r *Runner) take(ctx context.Context, calls []api.ExecCall) {
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
			n := r.begin(ctx, c.Job)
			r.work.Go(func() { r.giveUp(ctx, n, c) })
		case c.State == api.ExecCalled:
			n := r.begin(ctx, c.Job)
			r.work.Go(func() { r.perform(ctx, n, c) })
		}
	}
}

// begin is called with the lock held.
func (r *Runner) begin(ctx context.Context, job string) *run {
	n := &run{job: job, again: make(chan struct{}, 1)}
	n.life, n.stop = context.WithCancel(ctx)
	n.send = func(running context.Context) { r.send(n, running) }
	r.runs[job] = n
	return n
}

// giveUp reports what ran when this agent was last stopped: its guard has killed
// it.
func (r *Runner) giveUp(ctx context.Context, n *run, c api.ExecCall) {
	defer r.forget(n)
	r.report(ctx, api.ExecResult{
		Job: c.Job, Node: r.cfg.Node, Claim: c.Claim, State: api.ExecLost,
		Error: "the agent was restarted while it ran",
	})
}

// perform is one run from its call to its report.
func (r *Runner) perform(ctx context.Context, n *run, c api.ExecCall) {
	defer r.forget(n)
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-n.life.Done():
		return // it was not claimed: it does not begin
	}
	result := api.ExecResult{Job: c.Job, Node: r.cfg.Node}
	p, err := r.agree(c.Request)
	if err != nil {
		r.cfg.Logger.Warn("remote execution refused", "job", c.Job, "why", err)
		result.State, result.Error = api.ExecRefused, err.Error()
		r.report(ctx, result)
		return
	}
	if !r.claimRun(n.life, c.Job) {
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

// agree is the policy's word, and refuses a signed order that comes again.
func (r *Runner) agree(req api.ExecRequest) (*plan, error) {
	p, err := r.policy.Load().decide(req, time.Now())
	if err != nil || p.signer == "" {
		return p, err
	}
	return p, r.seen.add(p.order.ID, p.order.Expires, time.Now())
}

// claimRun asks until there is an answer. A claim that got lost on its way may be
// made again.
func (r *Runner) claimRun(ctx context.Context, job string) bool {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		ok, err := r.leader.claim(ctx, job, r.cfg.Node, r.claim)
		if err == nil {
			return ok
		}
		if !rest(ctx, pause) {
			return false
		}
	}
}

// report tells the leader, until it has taken note. An agent that stops tries for
// a little while only.
func (r *Runner) report(ctx context.Context, result api.ExecResult) {
	trying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(farewell, cancel) })()
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := r.leader.report(trying, result)
		if err == nil || client.IsStatus(err, http.StatusBadRequest) {
			return
		}
		r.cfg.Logger.Debug("could not report; trying again", "job", result.Job, "error", err, "in", pause)
		if !rest(trying, pause) {
			return
		}
	}
}

// forget lets go of a run that has ended; its output stays for a while.
func (r *Runner) forget(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.stop()
	delete(r.runs, n.job)
}

// isJob tells the runs of jobs from those of the reference's protocol.
func (r *Runner) isJob(n *run) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runs[n.job] == n
}

// keep puts a run's output among what can be asked for.
func (r *Runner) keep(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.kept = time.Now()
	r.spools = append(r.spools, n)
	for len(r.spools) > MaxSpools || time.Since(r.spools[0].kept) > keptSpool {
		old := r.spools[0]
		r.spools = slices.Delete(r.spools, 0, 1)
		old.spool.close()
	}
	close(r.more)
	r.more = make(chan struct{})
}

func (r *Runner) closeSpools() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.spools {
		n.spool.close()
	}
	r.spools = nil
}

// rest returns false if ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
