package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/agent"
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/logx"
)

const long = `Agent keeps the roll: nodes, services, health checks, keys and values. Without a
subcommand it runs an agent: a server with -server (or -dev), else a client that
forwards to the servers it finds by gossip.

Flags and configuration keys have Consul's names; see docs/agent.md.`

const examples = `  # One server, in memory, to try things out.
  agent -dev

  # One of three servers.
  agent -server -bootstrap-expect=3 -data-dir=/var/lib/muster -bind=10.0.0.1 \
        -retry-join=10.0.0.1 -retry-join=10.0.0.2 -retry-join=10.0.0.3

  # On every other machine.
  agent -data-dir=/var/lib/muster -bind=10.0.0.9 -retry-join=10.0.0.1

  # Ask one that runs.
  agent members
  agent kv get app/greeting`

func newCommand() *cobra.Command {
	root := runner(func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && cmd.Flags().NFlag() == 0 {
			return command.Unknown(cmd, args[0])
		}
		return noArguments(cmd, args)
	})
	root.Example = examples
	// "consul agent -dev" is how the reference is started, by people and by
	// the drivers of test suites: behind a link of that name it works here too.
	again := runner(noArguments)
	again.Hidden = true
	root.AddCommand(again)
	addOperator(root)
	return root
}

// runner is the command that runs an agent.
func runner(args cobra.PositionalArgs) *cobra.Command {
	var from sources
	all := settings()
	cmd := &cobra.Command{
		Use:   "agent [flags]",
		Short: "run an agent, or ask one",
		Long:  long,
		Args:  args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAgent(cmd.Context(), from.read(cmd.Flags(), all), from.repair)
		},
	}
	option.Define(cmd.Flags(), from.options()...)
	option.Define(cmd.Flags(), all...)
	return cmd
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return command.Usagef("unexpected extra arguments: %v", args)
	}
	return nil
}

// runAgent runs until a signal or a leave ends it.
func runAgent(ctx context.Context, src config.Sources, repair bool) error {
	cfg, warnings, err := config.Load(src)
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	parsed, err := logx.ParseLevel(cfg.LogLevel)
	if err != nil {
		return err
	}
	level.Set(parsed)
	log := logx.New(os.Stderr, level, cfg.LogJSON)
	for _, w := range warnings {
		log.Warn(w)
	}
	if cfg.PidFile != "" {
		if err := os.WriteFile(cfg.PidFile, []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
			return fmt.Errorf("write pid file: %w", err)
		}
		defer os.Remove(cfg.PidFile)
	}
	a := agent.New(cfg, agent.Options{
		Logger:   log,
		Level:    level,
		Version:  cli.Version(),
		Revision: cli.Revision(),
		Reload:   func() (*config.Config, []string, error) { return config.Load(src) },
		Files:    src.Paths,
		Ready:    notifyReady,
		Repair:   repair,
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	handled := make(chan error, 1)
	go func() { handled <- handleSignals(ctx, cancel, a, cfg, log) }()
	if cfg.Server {
		defer runtime.KeepAlive(calmCollector())
	}
	err = a.Run(ctx)
	cancel()
	return errors.Join(err, <-handled)
}

// handleSignals reloads on SIGHUP. SIGINT and SIGTERM end the agent, with a
// graceful leave where the configuration says so; a second one ends it at once.
func handleSignals(ctx context.Context, end func(), a *agent.Agent, cfg *config.Config, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-signals:
			switch sig {
			case syscall.SIGPIPE:
			case syscall.SIGHUP:
				if err := a.Reload(); err != nil {
					log.Error("reload failed, nothing changed", "error", err)
				}
			default:
				return stop(ctx, end, a, leaves(cfg, sig), signals, log)
			}
		}
	}
}

func leaves(cfg *config.Config, sig os.Signal) bool {
	if sig == os.Interrupt {
		return !cfg.SkipLeaveOnInterrupt
	}
	return cfg.LeaveOnTerminate
}

func stop(ctx context.Context, end func(), a *agent.Agent, leave bool, again <-chan os.Signal, log *slog.Logger) error {
	defer end()
	if !leave {
		log.Info("stopping")
		return nil
	}
	log.Info("leaving the cluster")
	left := make(chan error, 1)
	go func() { left <- a.Leave(ctx) }()
	for {
		select {
		case err := <-left:
			return err
		case sig := <-again:
			if sig == syscall.SIGHUP || sig == syscall.SIGPIPE {
				continue
			}
			return errors.New("interrupted a second time before the leave was done")
		}
	}
}

// notifyReady tells systemd, if it started us, that the agent serves.
func notifyReady() {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("READY=1"))
}
