// Package envexec runs a program whose environment holds keys, values and services:
// the engine behind the tool of that name.
//
// One goroutine owns all state (engine.go). All that the plan names is followed by
// one watcher; when every part has an answer the variables are made (package env)
// and the child starts (package supervise). A frame that makes other variables is a
// change: the child is stopped and started with them, or signalled, or left alone. The
// child's end ends the tool with its code, whatever the watcher is busy with.
//
// What it promises: the environment is that of one frame, so that with a muster
// agent a transaction is in it as a whole or not at all; data that make the same
// variables change nothing; outages and data that make no environment (two keys of one
// name, say) leave the child as it is, with a word in the log.
package envexec

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/watch"
)

// OnChange says what a change does to the child.
type OnChange string

// What it may do.
const (
	Restart OnChange = "restart"
	Signal  OnChange = "signal" // by Child.ReloadSignal; for a child that reads the file again
	Nothing OnChange = "nothing"
)

// ParseOnChange reads one of them.
func ParseOnChange(s string) (OnChange, error) {
	switch o := OnChange(s); o {
	case Restart, Signal, Nothing:
		return o, nil
	}
	return "", errors.New("want restart, signal or nothing")
}

// EnvFile is a file that holds the variables too.
type EnvFile struct {
	Path   string // "": none
	Format env.Output
}

// Config configures a Tool.
type Config struct {
	Plan     Plan
	Child    supervise.Spec
	Shell    *bool // nil: by the form of the command, see proc.Resolve
	OnChange OnChange
	EnvFile  EnvFile
	Wait     watch.Wait
	Jitter   time.Duration
	// Rollout says when a change is followed; nil: at once. The first start does not wait.
	Rollout rollout.Slots
	// Cache keeps the last good data, with which a start without any agent is possible.
	Cache watch.CacheConfig

	Once    bool          // follow no changes
	Timeout time.Duration // of Once, until the child starts; 0: none

	Client    watch.Getter
	Logger    *slog.Logger
	Retry     watch.Retry
	MaxStale  time.Duration
	BlockWait time.Duration
	OnReady   func() // called once, when the child has started

	Signals        <-chan os.Signal // passed on to the child
	Stdout, Stderr *os.File         // of the child
}

// Tool is one run of envexec.
type Tool struct {
	cfg    Config
	next   chan Plan // capacity 1
	mu     sync.Mutex
	status Status // guarded by mu
	live   func(*Status)
}

// New makes a Tool. It does nothing before Run.
func New(cfg Config) *Tool {
	cfg.Wait = cfg.Wait.WithDefaults()
	return &Tool{cfg: cfg, next: make(chan Plan, 1), status: Status{State: StateWaiting}}
}

// Reconfigure replaces the plan of a Tool that runs; the child is concerned only if it makes
// other variables. It does not wait. Only one goroutine may call it.
func (t *Tool) Reconfigure(p Plan) {
	select {
	case <-t.next:
	default:
	}
	t.next <- p
}

// Check says what would keep Run from working: a plan that cannot be followed, a program
// that is not there. It starts nothing.
func (t *Tool) Check() error {
	if err := t.cfg.Plan.Check(); err != nil {
		return err
	}
	if len(t.cfg.Child.Command) == 0 {
		return nil
	}
	return proc.Check(t.cfg.Child.Command, t.cfg.Shell)
}

// Run works until ctx ends (nil), which stops the child, or until the child ends.
// Errors carry the exit code of the tool (package cli).
func (t *Tool) Run(ctx context.Context) error {
	e, err := newEngine(t.cfg)
	if err != nil {
		return err
	}
	e.tool = t
	t.mu.Lock()
	t.live = e.look
	t.mu.Unlock()
	return e.run(ctx)
}

// Fetch makes the variables once, without a child.
func (t *Tool) Fetch(ctx context.Context) ([]env.Var, error) {
	cfg := t.cfg
	cfg.Once, cfg.EnvFile, cfg.Cache = true, EnvFile{}, watch.CacheConfig{}
	cfg.Child.Command = nil
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	e.tool = t
	err = e.run(ctx)
	if err == nil && !e.started {
		err = cli.Exit(cli.ExitInterrupted, nil)
	}
	return e.vars, err
}
