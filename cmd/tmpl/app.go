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

// app is one configuration of tmpl for the daemon.
type app struct {
	*tmpl.Tool
	settings *settings
}

// run runs until a signal or the tool's end ends it.
func (o *options) run(ctx context.Context, s *settings) error {
	d := daemon.Daemon{Stderr: o.stderr, LogJSON: o.LogJSON, StatusAddr: o.StatusAddr, Load: func() (daemon.App, error) {
		s, err := o.load(os.Environ())
		return &app{settings: s}, err
	}}
	return d.Run(ctx, &app{settings: s})
}

func (a *app) Open(log *slog.Logger, signals <-chan os.Signal) {
	a.Tool = newTool(a.settings, log, signals)
}

func (a *app) Common() daemon.Common { return a.settings.common() }

func (a *app) Status() daemon.Status { return a.Tool.Status() }

// LoadFailed reads the templates again all the same: they may be fine.
func (a *app) LoadFailed() { a.Reload() }

func (a *app) Reconfigure(other daemon.App) bool {
	now, next := a.settings, other.(*app).settings
	if next.token != now.token || !reflect.DeepEqual(fixed(next.file), fixed(now.file)) {
		return false
	}
	a.settings = next
	a.Tool.Reconfigure(next.tool.Templates, next.tool.Wait)
	return true
}

func (s *settings) common() daemon.Common {
	return daemon.Common{Level: s.level, PidFile: s.file.PidFile, Warnings: s.warnings, Signals: s.signals()}
}

// newTool adds to the settings what a Tool needs beside them.
func newTool(s *settings, log *slog.Logger, signals <-chan os.Signal) *tmpl.Tool {
	cfg := s.tool
	cfg.Logger, cfg.Signals = log, signals
	if r, err := toolopts.Rollout(s.file.Apply, s.client, log); err == nil && r != nil { // load has checked it
		cfg.Rollout = r
	}
	cfg.OnReady = func() { daemon.Notify("READY=1") }
	return tmpl.New(cfg)
}

func (s *settings) signals() daemon.Signals {
	out := daemon.Signals{Kill: s.kill, Reload: s.reload}
	if len(s.tool.Exec.Command) > 0 {
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
