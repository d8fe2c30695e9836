// Package supervise runs the child of a tool. There are two policies:
//
//   - Bound: the child is a server whose life is its tool's. It is started when the tool
//     is ready, follows each change, and when it ends by itself the tool ends with its code.
//   - Rerun: the child is a command that applies a change. It runs anew for each change,
//     again after a failure, and its end is no end of the tool's.
//
// Both promise: the end of the child is seen whatever the tool is busy with; a change
// while the child starts or stops is not lost, and several of them are one; nothing is
// started once the context has ended. When this process ends, even by kill -9, all
// processes that the child started are killed (package proc), and so they are when a
// bound child ends.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

// Spec says what runs.
type Spec struct {
	Command      []string       // one command line, or argv; empty: none
	ReloadSignal syscall.Signal // tells the child of a change; 0: it is stopped and started
	KillSignal   syscall.Signal // 0: SIGINT
	KillTimeout  time.Duration  // from that signal to SIGKILL; 0: 30 s
	Splay        time.Duration  // a running child follows a change a random time later, at most this
	Timeout      time.Duration  // a bound child may run so long; 0: for ever
	Unmarked     bool           // nothing of ours is in its environment, see proc.Spec
}

const defaultKillTimeout = 30 * time.Second

// Config is what surrounds the child. Only Logger is required.
type Config struct {
	Logger         *slog.Logger
	Signals        <-chan os.Signal // passed on to the child
	Notice         func(string)     // a remark for the log, each of which is said once
	Shell          *bool            // nil: by the form of the command, see proc.Resolve
	Env            func() []string  // asked at each start; nil, or a nil answer: our own
	OnStart        func()           // called after each start of a bound child, which waits for it; nil: nobody cares
	Stdout, Stderr *os.File         // nil is /dev/null
}

// child is one that runs: *proc.Child.
type child interface {
	Pid() int
	Signal(syscall.Signal) error
	Pass(syscall.Signal) error
	Wait(ctx context.Context) (code int, err error)
	Stop(sig syscall.Signal, killAfter time.Duration) (code int, err error)
}

// exit is how a child has ended.
type exit struct {
	code int
	err  error
}

// base is what both policies do with a child.
type base struct {
	spec  Spec
	cfg   Config
	log   *slog.Logger
	start func() (child, error)
}

func newBase(spec Spec, cfg Config) base {
	if spec.KillSignal == 0 {
		spec.KillSignal = syscall.SIGINT
	}
	if spec.KillTimeout == 0 {
		spec.KillTimeout = defaultKillTimeout
	}
	return base{spec: spec, cfg: cfg, log: cfg.Logger}
}

func (b *base) name() string { return strings.Join(b.spec.Command, " ") }

// resolve finds the program anew for each start: a template may have written it.
func (b *base) resolve() (proc.Spec, error) {
	argv, note, err := proc.Resolve(b.spec.Command, b.cfg.Shell)
	if err != nil {
		return proc.Spec{}, err
	}
	if note != "" && b.cfg.Notice != nil {
		b.cfg.Notice(note)
	}
	spec := proc.Spec{Argv: argv, Unmarked: b.spec.Unmarked, Stdout: b.cfg.Stdout, Stderr: b.cfg.Stderr}
	if b.cfg.Env != nil {
		spec.Env = b.cfg.Env()
	}
	return spec, nil
}

// launch starts the child. ended yields its end.
func (b *base) launch() (c child, ended <-chan exit, err error) {
	if c, err = b.start(); err != nil {
		return nil, nil, cli.Exit(cli.ExitRun, fmt.Errorf("start %q: %w", b.name(), err))
	}
	ends := make(chan exit, 1)
	go func() {
		code, err := c.Wait(context.Background())
		ends <- exit{code, err}
	}()
	return c, ends, nil
}

// told logs that a child could not be signalled; that it has just ended is no trouble.
func (b *base) told(err error, sig syscall.Signal) {
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.log.Warn("cannot signal the child", "command", b.name(), "signal", sig, "error", err)
	}
}

// splay is the random time before a running child follows a change.
func (b *base) splay() time.Duration {
	if b.spec.Splay <= 0 {
		return 0
	}
	return rand.N(b.spec.Splay)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
