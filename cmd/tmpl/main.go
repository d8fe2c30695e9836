// Tmpl renders templates from live data and runs a command after it.
//
//	tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/tmpl"
)

func main() {
	proc.GuardMain()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	o := &options{stdout: stdout, stderr: stderr}
	root := newCommand(o)
	root.SetOut(stdout)
	m := command.Main{Root: root, UsageCode: cli.ExitFlags, Stderr: stderr}
	return m.Run(context.Background(), args)
}

// start turns the flags into a Tool and runs it until a signal says otherwise.
func start(ctx context.Context, o *options) error {
	if o.version {
		_, err := fmt.Fprintf(o.stdout, "tmpl %s (muster)\n", cli.Version())
		return err
	}
	cfg, err := o.config(os.Environ())
	if err != nil {
		return err
	}
	kill, reload, err := o.signals()
	if err != nil {
		return err
	}
	// What net/http says of connections that an agent refuses is no news to users.
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug).Writer())
	others := make(chan os.Signal, 16)
	cfg.Signals = others
	tool := tmpl.New(cfg)
	if o.parseOnly {
		return tool.Parse()
	}
	if o.exec != "" {
		signal.Notify(others, passedOn(kill, reload)...)
		defer signal.Stop(others)
	}
	ctx, stop := cli.SignalContext(ctx, os.Interrupt, syscall.SIGTERM, kill)
	defer stop()
	defer onSignal(reload, tool.Reload)()
	remove, err := writePID(o.pidFile) // whoever reads it may send signals at once
	if err != nil {
		return err
	}
	defer remove()

	if err := tool.Run(ctx); err != nil {
		return err
	}
	var by *cli.Interrupt
	if errors.As(context.Cause(ctx), &by) && by.Signal != syscall.SIGTERM {
		return cli.Exit(cli.ExitInterrupted, nil)
	}
	return nil
}

// passedOn are the signals that are for the -exec command.
func passedOn(kill, reload syscall.Signal) []os.Signal {
	var out []os.Signal
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH} {
		if sig != kill && sig != reload {
			out = append(out, sig)
		}
	}
	return out
}

// onSignal calls fn for each sig until the function it returns is called.
func onSignal(sig syscall.Signal, fn func()) (stop func()) {
	if sig == 0 {
		return func() {}
	}
	got, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(got, sig)
	go func() {
		for {
			select {
			case <-got:
				fn()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(got)
		close(done)
	}
}

// writePID writes the file that -pid-file names, and gives the function that
// removes it.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
		return nil, cli.Exit(cli.ExitConfig, fmt.Errorf("write pid file: %w", err))
	}
	return func() { _ = os.Remove(path) }, nil
}

// discardIfNil keeps a nil file from becoming an io.Writer that is not nil.
func discardIfNil(f *os.File) io.Writer {
	if f == nil {
		return io.Discard
	}
	return f
}
