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

	got   chan os.Signal // what we get
	child chan os.Signal // what of it is for the child

	held bool // once at least
	code int  // the child's

	mu      sync.Mutex
	holds   bool // signals are for the child
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
	if done, err := h.once.Done(ctx, h.client, h.prefix); err != nil || done != nil {
		return h.spared(done, err)
	}
	h.say("Setting up lock at path: %s", h.lock.Key())
	for {
		err := h.run(ctx)
		if !h.elect || !errors.Is(err, lock.ErrLost) || ctx.Err() != nil {
			return h.result(ctx, err)
		}
		h.tell("%v; standing again", err)
	}
}

// prepare reads flags and arguments; it asks nobody.
func (o *options) prepare(cmd *cobra.Command, args []string) (*holding, error) {
	if len(args) > 1 && args[1] == "--" {
		args = append([]string{args[0]}, args[2:]...)
	}
	safeTTL := o.safe && cmd.Flags().Changed("ttl")
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
	signal.Notify(h.got, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
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
	case h.holds:
		select {
		case h.child <- sig:
		default: // sixteen are waiting already
		}
	case sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2 && sig != syscall.SIGWINCH:
		h.waiting(&cli.Interrupt{Signal: sig})
	}
}

func (h *holding) holding(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds = yes
}

// errTimeout ends the wait for the lock.
var errTimeout = errors.New("the time is over")

// run acquires the lock, runs the child, and releases the lock.
func (h *holding) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	inTime := func() bool { return true }
	if h.timeout > 0 && !h.held { // a leader that stands again has waited already
		timer := time.AfterFunc(h.timeout, func() { cancel(errTimeout) })
		defer timer.Stop()
		inTime = timer.Stop
	}
	h.say("Attempting lock acquisition")
	guard, err := proc.NewGuard(nil) // it starts while we ask for the lock
	if err != nil {
		return err
	}
	defer guard.Close()
	return h.lock.Do(ctx, func(ctx context.Context, held *lock.Held) error {
		if !inTime() {
			return errTimeout
		}
		h.held = true
		return h.work(ctx, held, guard)
	})
}

// work runs the child, unless that has been done.
func (h *holding) work(ctx context.Context, held *lock.Held, guard *proc.Guard) error {
	h.holding(true)
	defer h.holding(false)
	if done, err := h.once.Done(ctx, h.client, h.prefix); err != nil || done != nil {
		return h.spared(done, err)
	}
	h.say("Starting handler")
	code, err := lock.Command{Spec: h.spec, Guard: guard, Signals: h.child, KillAfter: h.killAfter}.Run(ctx, held)
	go guard.Close() // while the lock is released; run waits for its end
	if err != nil {
		return err
	}
	h.code = code
	h.say("Child terminated, releasing lock")
	if code == 0 && ctx.Err() == nil {
		return h.once.Note(ctx, held)
	}
	return nil
}

// spared says that -once-per left nothing to do.
func (h *holding) spared(done *lock.Success, err error) error {
	if err != nil {
		return err
	}
	h.say("Done already at %s by %s", done.Time.Local().Format(time.RFC3339), done.Host)
	return nil
}

// result turns the end of it all into an exit code.
func (h *holding) result(ctx context.Context, err error) error {
	var by *cli.Interrupt
	switch {
	case err == nil:
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
