// Package tmpl renders templates from live data and runs a command after it:
// the engine behind the tool of that name.
//
// One goroutine owns all state (engine.go). Frames from package watch and the
// template's local files are its data; a template whose data changed is executed
// again, which also says what it depends on now; the union of all that is
// followed. A template is written only from a complete pass: everything it asked
// for had an answer in that pass. It is staged, checked, and renamed over its
// destination (package render); then the commands of what changed run, each
// once, and the -exec command is told (child.go has its states).
//
// What it promises: the last good file stays through any outage, failing check
// or failing template; the same data gives the same bytes; templates that do not
// depend on what changed are left alone; it ends only when it is told to, unless
// nothing it could wait for would help (a template that cannot be parsed, a
// destination that could never be written).
package tmpl

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/watch"
)

// Template is one file to keep.
type Template struct {
	Source         string // path of the template
	Contents       string // the template itself; then Source is only its name
	Destination    string // path of the file
	Command        string // run when the file has changed; "": none
	CommandTimeout time.Duration
	Check          string // must accept the staged file, {path}; "": none
	Perms          fs.FileMode
	User, Group    string
	Backup         bool
	NoDirs         bool     // a missing directory is an error instead of being made
	Env            []string // of Command; nil: Config.Env
	LeftDelim      string
	RightDelim     string
	// ErrorOnMissingKey makes a missing map key an error.
	ErrorOnMissingKey bool
	// ErrorFatal says whether a failure of this template ends the tool; nil: only
	// if nothing it could wait for would help.
	ErrorFatal  *bool
	Denylist    []string    // patterns of functions that fail
	SandboxPath string      // what file reads must lie below; "": anywhere
	Wait        *watch.Wait // nil: Config.Wait
	// MinInterval is the least time between two replacements of the file; 0: Config.MinInterval.
	MinInterval time.Duration
	// Together names a group: its files are replaced all or none, once all are
	// rendered and checked. "": the file is on its own.
	Together string
	// MinItems and MaxShrink guard against losses: a file is not replaced by one
	// that shows fewer things (instances, keys, nodes) than MinItems, or more than
	// MaxShrink percent less than before. Reload agrees to the latter.
	MinItems  int
	MaxShrink int // percent; 0: no limit
}

// Config configures a Tool.
type Config struct {
	Templates []Template
	Exec      supervise.Spec // runs after complete renders
	Supervise supervise.Spec // beside Exec there is none
	ChildEnv  []string       // the environment of either; nil: Env
	Shell     *bool          // nil: by the form of a command, see proc.Resolve
	Wait      watch.Wait
	// MinInterval is the least time between two replacements of one file, and Jitter
	// how long a node waits at most before it follows a change: each always as long.
	MinInterval time.Duration
	Jitter      time.Duration
	// Rollout says when files that change may be replaced; nil: at once.
	Rollout rollout.Slots
	// Cache keeps the last good data, from which a start without any agent renders.
	Cache watch.CacheConfig

	Once    bool
	Timeout time.Duration // of Once; 0: none
	Dry     bool          // print instead of writing, run nothing

	Client    watch.Getter
	Logger    *slog.Logger
	Retry     watch.Retry
	MaxStale  time.Duration
	BlockWait time.Duration
	// FailOnMissing ends the tool when a key that a template waits for is not there.
	FailOnMissing bool
	// OnReady is called once, after the first complete render.
	OnReady func()

	// Signals are passed on to the -exec command while it runs.
	Signals <-chan os.Signal

	Env            []string // of commands; nil: our own
	Stdout, Stderr *os.File // of commands, and Stdout of Dry
}

// Limits and defaults with a name.
const (
	defaultCommandTimeout = 30 * time.Second
)

// Tool is one run of tmpl.
type Tool struct {
	cfg    Config
	reload chan struct{}
	ready  *engine // made by Prepare; nil: Run makes its own

	next    atomic.Pointer[reconfiguration] // what Reconfigure has left for the engine; nil: nothing
	running atomic.Pointer[engine]          // what Status shows; nil before Run
}

// New makes a Tool. It reads nothing before Run.
func New(cfg Config) *Tool {
	cfg.Wait = cfg.Wait.WithDefaults()
	if cfg.ChildEnv == nil {
		cfg.ChildEnv = cfg.Env
	}
	cfg.Templates = withDefaults(cfg.Templates)
	return &Tool{cfg: cfg, reload: make(chan struct{}, 1)}
}

// Reload reads the templates again; those whose text did not change are left
// alone. It does not wait, and a template that cannot be read or parsed leaves
// the one before in place.
func (t *Tool) Reload() {
	select {
	case t.reload <- struct{}{}:
	default:
	}
}

// Run works until ctx ends (nil), or until Once is done, for which the end of
// ctx is an error. Errors carry the exit code of the tool (package cli).
func (t *Tool) Run(ctx context.Context) error {
	if t.cfg.Once && len(t.cfg.Templates) == 0 {
		return nil
	}
	if err := t.prepare(); err != nil {
		return err
	}
	e := t.ready
	e.next = &t.next
	t.running.Store(e)
	if t.cfg.Once && t.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.cfg.Timeout, errTimeout)
		defer cancel()
	}
	err := e.run(ctx)
	switch {
	case !errors.Is(err, errInterrupted):
		return err
	case errors.Is(context.Cause(ctx), errTimeout):
		return e.timedOut()
	}
	return cli.Exit(cli.ExitInterrupted, err)
}

var (
	errTimeout     = errors.New("timed out")
	errInterrupted = errors.New("interrupted before all was done")
)

// Prepare reads and parses the templates of a Tool that is to take the place of one that
// runs, before that is ended. It starts and writes nothing. Run does not end then because
// of a template that cannot be executed or written: the one before has not either.
func (t *Tool) Prepare() error {
	if err := t.prepare(); err != nil {
		return err
	}
	for _, u := range t.ready.units {
		u.late = true
	}
	return nil
}

func (t *Tool) prepare() error {
	if t.ready != nil {
		return nil
	}
	e := newEngine(t.cfg, t.reload)
	if err := e.load(); err != nil {
		return err
	}
	t.ready = e
	return nil
}

// Parse only reads and parses the templates.
func (t *Tool) Parse() error { return t.prepare() }
