package lockcmd

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/lock"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/proc"
)

// hold runs a command under a lock.
func (o *options) hold(cmd *cobra.Command, args, paths []string) error {
	r, close, err := o.prepare(cmd, args, paths)
	if err != nil {
		return err
	}
	defer close()
	got := make(chan os.Signal, 16)
	signal.Notify(got, cli.Unignored(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTSTP)...)
	defer signal.Stop(got)
	r.Signals = got
	code, err := r.Run(cmd.Context())
	var by *cli.Interrupt
	switch key := r.Lock.Key(); {
	case err == nil && code != 0:
		return cli.Exit(code, nil)
	case errors.Is(err, lock.ErrNotRecorded):
		return cli.Hint(cli.ExitError, err, "it will run again where -once-per is asked next")
	case errors.Is(err, lock.ErrLost):
		return cli.Exit(cli.ExitLockLost, fmt.Errorf("%s: %w", key, err))
	case errors.Is(err, lock.ErrTimeout):
		return cli.Hint(cli.ExitNotLocked, fmt.Errorf("acquire %s: not within %v", key, o.Timeout), fmt.Sprintf("\"lock show %s\" says who holds it", o.prefix(args[0])))
	case errors.As(err, &by):
		return cli.Exit(cli.ExitNotLocked, fmt.Errorf("acquire %s: %w", key, by))
	}
	return err
}

// prepare reads flags and arguments. It sends nothing.
func (o *options) prepare(cmd *cobra.Command, args, paths []string) (r *lock.Runner, close func(), err error) {
	if len(args) > 1 && args[1] == "--" {
		args = append([]string{args[0]}, args[2:]...)
	}
	cli.SurviveSIGPIPE() // a reader of our output that ends does not end the command
	values, agent, err := connect.Open(o.table, "lock", paths, cmd.ErrOrStderr())
	if err != nil {
		return nil, nil, err
	}
	safeTTL := values.Safe && o.table.Given("safe") && o.table.Given("ttl")
	if o.file = *values; o.elect { // an election has one leader
		o.N, o.Safe, o.OncePer = 1, false, ""
	}
	switch {
	case o.N < 1:
		return nil, nil, command.Usagef("Lock holder limit must be positive")
	case o.Timeout < 0:
		return nil, nil, command.Usagef("Timeout must be positive")
	case len(args) < 2 || strings.Trim(args[0], "/") == "":
		return nil, nil, command.Usagef("Key prefix and child command must be specified")
	case strings.HasPrefix(args[1], "-"):
		return nil, nil, command.Usagef("%q stands where the command is expected: flags go before the prefix", args[1])
	case safeTTL:
		return nil, nil, command.Usagef("-safe has no -ttl: nothing ends a safe lock but its release")
	}
	r = &lock.Runner{Timeout: o.Timeout, Elect: o.elect, KillAfter: o.KillTimeout}
	r.Warn = func(format string, args ...any) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "lock: "+format+"\n", args...)
	}
	r.Progress = func(format string, args ...any) {
		if o.Verbose {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
		}
	}
	if r.Once, err = lock.ParseOncePer(o.OncePer); err != nil {
		return nil, nil, &command.UsageError{Err: err}
	}
	argv, notice, err := proc.Resolve(args[1:], o.Shell)
	if err != nil {
		return nil, nil, err
	}
	if notice != "" {
		r.Warn("%s", notice)
	}
	if err := proc.Runnable(argv[0]); err != nil { // before the wait for the lock
		return nil, nil, err
	}
	r.Spec = proc.Spec{Argv: argv, Env: append(os.Environ(), connect.Environ(agent.Config)...), Stdout: os.Stdout, Stderr: os.Stderr}
	if o.PassStdin {
		r.Spec.Stdin = os.Stdin
	}
	cfg := o.lockConfig(o.prefix(args[0]), strings.Join(args[1:], " "))
	cfg.Client, cfg.Logger = agent.Client, logx.New(os.Stderr, agent.Level, false)
	r.Lock, err = lock.New(cfg)
	if err != nil {
		return nil, nil, &command.UsageError{Err: err}
	}
	return r, agent.Client.CloseIdle, nil
}

// prefix is the prefix of the lock; an election is given by its name.
func (o *options) prefix(arg string) string {
	if o.elect {
		return lock.LeaderPrefix(arg)
	}
	return arg
}

func (o *options) lockConfig(prefix, command string) lock.Config {
	host, _ := os.Hostname() // only for people who read it
	cfg := lock.Config{
		Prefix: prefix, Slots: o.N, Name: o.Name, TTL: o.TTL, Safe: o.Safe, Delay: o.LockDelay,
		Holder: lock.Holder{Host: host, PID: os.Getpid(), Command: command, Value: o.Value},
	}
	if o.Safe {
		cfg.TTL = 0
	}
	if cfg.Name == "" {
		cfg.Name = lock.SessionName(command, prefix)
	}
	if o.elect && o.Value == "" {
		cfg.Holder.Value = host
	}
	return cfg
}
