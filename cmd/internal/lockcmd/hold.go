package lockcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/cmd/internal/flagfile"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/lock"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/proc"
)

// holding is one run of the command, from its arguments to its end.
type holding struct {
	*options
	cmd    *cobra.Command
	client *client.Client
	lock   *lock.Lock
	prefix string
	spec   proc.Spec
	once   lock.OncePer

	until time.Time // the end of -timeout

	got   chan os.Signal // what we get
	child chan os.Signal // what of it is for the child

	started bool  // the command was, once at least
	ended   bool  // by itself, while the lock was held
	code    int   // the child's
	noteErr error // its success could not be noted

	mu      sync.Mutex
	holds   bool   // signals are for the child
	stopped bool   // one of them was to end it, and us
	onStop  func() // says what a stop means
	waiting context.CancelCauseFunc
}

func (o *options) hold(cmd *cobra.Command, args []string) error {
	h, err := o.prepare(cmd, args)
	if err != nil {
		return err
	}
	defer h.client.CloseIdle()
	ctx, waiting := context.WithCancelCause(cmd.Context())
	defer waiting(nil)
	h.waiting = waiting
	defer h.listen(ctx)()
	h.until = time.Now().Add(h.timeout)
	if done, err := h.look(ctx); err != nil || done {
		return h.result(ctx, err)
	}
	h.say("Setting up lock at path: %s", h.lock.Key())
	for {
		err := h.run(ctx)
		if !errors.Is(err, lock.ErrLost) || h.ended || ctx.Err() != nil || h.toldToStop() {
			return h.result(ctx, err)
		}
		switch {
		case !h.started:
			h.tell("%v, before the command began; waiting for it again", err)
		case h.elect:
			h.tell("%v; standing again", err)
		default:
			return h.result(ctx, err)
		}
	}
}

// look says whether -once-per leaves nothing to do.
func (h *holding) look(parent context.Context) (done bool, err error) {
	ctx, inTime, end := h.inTime(parent)
	defer end()
	defer inTime()
	seen, err := h.lock.Look(ctx, h.once)
	if err == nil && seen.Done != nil {
		h.spared(seen.Done)
		return true, nil
	}
	return false, err
}

// prepare reads flags and arguments; it asks nobody.
func (o *options) prepare(cmd *cobra.Command, args []string) (*holding, error) {
	if len(args) > 1 && args[1] == "--" {
		args = append([]string{args[0]}, args[2:]...)
	}
	safeTTL := o.safe && cmd.Flags().Changed("ttl")
	cli.SurvivePipes() // who reads what we say may go, the command stays
	settled, err := flagfile.Load[file](o.common, cmd.Flags(), cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	switch {
	case o.n < 1:
		return nil, command.Usagef("Lock holder limit must be positive")
	case o.timeout < 0:
		return nil, command.Usagef("Timeout must be positive")
	case len(args) < 2 || strings.Trim(args[0], "/") == "":
		return nil, command.Usagef("Key prefix and child command must be specified")
	case strings.HasPrefix(args[1], "-"):
		return nil, command.Usagef("%q stands where the command is expected: flags go before the prefix", args[1])
	case o.shell != "" && o.shell != "true" && o.shell != "false":
		return nil, command.Usagef("invalid value %q for flag -shell: want true or false", o.shell)
	case safeTTL:
		return nil, command.Usagef("-safe has no -ttl: nothing ends a safe lock but its release")
	}
	h := &holding{options: o, cmd: cmd, client: settled.Client, prefix: args[0], got: make(chan os.Signal, 16), child: make(chan os.Signal, 16)}
	if h.once, err = lock.ParseOncePer(o.oncePer); err != nil {
		return nil, &command.UsageError{Err: err}
	}
	var shell *bool
	if o.shell != "" {
		yes := o.shell == "true"
		shell = &yes
	}
	argv, notice, err := proc.Resolve(args[1:], shell)
	if err != nil {
		return nil, err
	}
	if notice != "" {
		h.tell("%s", notice)
	}
	if err := proc.Runnable(argv[0]); err != nil { // nobody has to wait for the lock to learn that
		return nil, err
	}
	h.spec = proc.Spec{Argv: argv, Env: append(os.Environ(), connflags.Environ(settled.Conn)...), Stdout: os.Stdout, Stderr: os.Stderr}
	if o.passStdin {
		h.spec.Stdin = os.Stdin
	}
	if o.elect {
		h.prefix = lock.LeaderPrefix(args[0])
	}
	h.lock, err = lock.New(h.lockConfig(strings.Join(args[1:], " "), logx.New(os.Stderr, settled.Level, false)))
	if err != nil {
		return nil, &command.UsageError{Err: err}
	}
	return h, nil
}

func (h *holding) lockConfig(command string, log *slog.Logger) lock.Config {
	host, _ := os.Hostname() // only for people who read it
	cfg := lock.Config{
		Client: h.client, Prefix: h.prefix, Slots: h.n, Name: h.name, TTL: h.ttl, Safe: h.safe, Delay: h.delay,
		Holder: lock.Holder{Host: host, PID: os.Getpid(), Command: command, Value: h.value},
		Logger: log,
	}
	if h.safe {
		cfg.TTL = 0
	}
	if cfg.Name == "" {
		cfg.Name = lock.SessionName(command, h.prefix)
	}
	if h.elect && h.value == "" {
		cfg.Holder.Value = host
	}
	return cfg
}

// listen takes signals: they end the wait for the lock and, once it is held, are
// for the child.
func (h *holding) listen(ctx context.Context) (stop func()) {
	signal.Notify(h.got, cli.Unignored(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTSTP)...)
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-quit:
				return
			case sig := <-h.got:
				h.take(sig)
			}
		}
	})
	return func() {
		signal.Stop(h.got)
		close(quit)
		done.Wait()
	}
}

func (h *holding) take(sig os.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case sig == syscall.SIGTSTP: // not at all without a word; a child of its own session runs on
		if h.onStop != nil {
			h.onStop()
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case h.holds:
		// Remembered too: a leader whose lead is lost does not stand again then.
		h.stopped = h.stopped || sig == syscall.SIGINT || sig == syscall.SIGTERM
		select {
		case h.child <- sig:
		default: // sixteen are waiting already
		}
	case sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2 && sig != syscall.SIGWINCH:
		h.waiting(&cli.Interrupt{Signal: sig})
	}
}

// holding says that signals are for the child, and what to say of a stop; nil: they are
// not. What was for an earlier child is not for the next one.
func (h *holding) holding(onStop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds, h.onStop = onStop != nil, onStop
	for len(h.child) > 0 {
		<-h.child
	}
}

func (h *holding) toldToStop() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped
}

// errTimeout ends the wait for the lock.
var errTimeout = errors.New("the time is over")

// inTime is a context that ends with -timeout, unless stop is called before: that says
// whether it came in time. A leader that stands again has waited already.
func (h *holding) inTime(parent context.Context) (ctx context.Context, stop func() bool, end func()) {
	ctx, cancel := context.WithCancelCause(parent)
	end = func() { cancel(nil) }
	if h.timeout == 0 || h.started {
		return ctx, func() bool { return true }, end
	}
	timer := time.AfterFunc(time.Until(h.until), func() { cancel(errTimeout) })
	return ctx, timer.Stop, end
}

// run acquires the lock, runs the child, and releases the lock.
func (h *holding) run(parent context.Context) error {
	ctx, inTime, end := h.inTime(parent)
	defer end()
	h.say("Attempting lock acquisition")
	guard, err := proc.NewTerminalGuard() // it starts while we ask for the lock
	if err != nil {
		return err
	}
	defer guard.Close()
	return h.lock.Do(ctx, func(ctx context.Context, held *lock.Held) error {
		seen, err := h.lock.Look(ctx, h.once)
		switch {
		case err != nil:
			return err
		case !inTime():
			return errTimeout
		case seen.Done != nil:
			h.spared(seen.Done)
			return nil
		}
		if err := h.work(ctx, held, guard); err != nil || !h.ended || h.code != 0 {
			return err
		}
		// The lock may be lost while this is tried again: the success stays one.
		h.noteErr = h.lock.Note(parent, h.once, seen)
		return nil
	})
}

// work runs the child.
func (h *holding) work(ctx context.Context, held *lock.Held, guard *proc.Guard) error {
	stopping := h.stopping(held)
	h.holding(stopping)
	defer h.holding(nil)
	if ctx.Err() != nil { // by a signal that has just come, or a loss
		return context.Cause(ctx)
	}
	h.started = true
	h.say("Starting handler")
	code, err := lock.Command{Spec: h.spec, Guard: guard, Signals: h.child, KillAfter: h.killAfter, OnStop: stopping}.Run(ctx, held)
	go guard.Close() // while the lock is released; run waits for its end
	if err != nil {
		return err
	}
	h.code, h.ended = code, ctx.Err() == nil && held.Lost() == nil
	h.say("Child terminated, releasing lock")
	return nil
}

// stopping says what it means that we are about to be stopped while the lock is held.
func (h *holding) stopping(held *lock.Held) func() {
	return func() {
		if h.safe {
			h.tell("stopped: %s stays held", held.Key())
			return
		}
		h.tell("stopped: %s is lost, and the command killed, unless it goes on (fg, bg) within %v", held.Key(), held.Left().Round(time.Second))
	}
}

// spared says that -once-per left nothing to do.
func (h *holding) spared(done *lock.Success) {
	h.say("Done already at %s by %s", done.Time.Local().Format(time.RFC3339), done.Host)
}

// result turns the end of it all into an exit code.
func (h *holding) result(ctx context.Context, err error) error {
	var by *cli.Interrupt
	switch {
	case h.noteErr != nil:
		return cli.Hint(cli.ExitError, fmt.Errorf("the command has succeeded, but others do not know: %w", h.noteErr),
			"it will run again where -once-per is asked next")
	case err == nil, h.ended && errors.Is(err, lock.ErrLost): // lost after the command's own end
		h.say("Cleanup succeeded")
		if h.code != 0 {
			return cli.Exit(h.code, nil)
		}
		return nil
	case errors.Is(err, lock.ErrLost):
		return cli.Exit(cli.ExitLockLost, fmt.Errorf("%s: %w", h.lock.Key(), err))
	case errors.Is(err, errTimeout):
		return cli.Hint(cli.ExitNotLocked, fmt.Errorf("acquire %s: not within %v", h.lock.Key(), h.timeout),
			fmt.Sprintf("\"lock show %s\" says who holds it", h.prefix))
	case errors.As(context.Cause(ctx), &by):
		return cli.Exit(cli.ExitNotLocked, fmt.Errorf("acquire %s: %w", h.lock.Key(), by))
	}
	return err
}

// say is for -verbose; tell is for everybody.
func (h *holding) say(format string, args ...any) {
	if h.verbose {
		_, _ = fmt.Fprintf(h.cmd.ErrOrStderr(), format+"\n", args...)
	}
}

func (h *holding) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(h.cmd.ErrOrStderr(), "lock: "+format+"\n", args...)
}
