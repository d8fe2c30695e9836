package main

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/daemon"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/config"
)

// live runs until a signal or the Tool's end ends it.
func (o *options) live(ctx context.Context, s *settings) error {
	return daemon.Program[*settings, *tmpl.Tool]{
		Stderr: o.stderr, LogJSON: o.LogJSON, StatusAddr: o.StatusAddr,
		Basics: (*settings).basics, New: newTool, Signals: (*settings).meanings,
		Status:  func(tool *tmpl.Tool) daemon.Reporter { return tool.Status() },
		Load:    func() (*settings, error) { return o.load(os.Environ()) },
		Failed:  (*tmpl.Tool).Reload, // the templates may be fine
		Prepare: (*tmpl.Tool).Prepare,
		Change: func(tool *tmpl.Tool, _ *slog.Logger, now, next *settings) bool {
			if next.token != now.token || !reflect.DeepEqual(fixed(next.file), fixed(now.file)) {
				return false
			}
			tool.Reconfigure(next.tool.Templates, next.tool.Wait)
			return true
		},
	}.Run(ctx, s)
}

func (s *settings) basics() daemon.Basics {
	return daemon.Basics{Level: s.level, PidFile: s.file.PidFile, Warnings: s.warnings}
}

// newTool adds to the settings what a Tool needs beside them.
func newTool(s *settings, log *slog.Logger, others <-chan os.Signal) *tmpl.Tool {
	cfg := s.tool
	cfg.Logger, cfg.Signals = log, others
	if r, err := toolopts.Rollout(s.file.Apply, s.client, log); err == nil && r != nil { // settings have seen it
		cfg.Rollout = r
	}
	cfg.OnReady = func() { daemon.Notify("READY=1") }
	return tmpl.New(cfg)
}

// meanings are those of signals.
func (s *settings) meanings() daemon.Signals {
	out := daemon.Signals{Kill: s.kill, Reload: s.reload}
	if s.tool.Exec.Command != "" {
		out.Others = append(out.Others, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	}
	if len(s.tool.Supervise.Command) > 0 && !s.tool.Dry {
		out.Supervising = true
		out.Others = append(out.Others, daemon.ForChild()...)
	}
	return out
}

// fixed is what cannot change while a Tool runs.
func fixed(c *config.Config) config.Config {
	f := *c
	f.Templates, f.Quiescence, f.Delims, f.ErrorFatal = nil, nil, config.Delims{}, nil
	f.LogLevel, f.PidFile, f.ReloadSignal = "", "", nil
	return f
}
