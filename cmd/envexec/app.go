package main

import (
	"context"
	"log/slog"
	"os"
	"reflect"

	"github.com/muster-dev/muster/cmd/internal/daemon"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/envexec/config"
)

// app is one configuration of envexec for the daemon.
type app struct {
	*envexec.Tool
	settings *settings
}

// run runs until the child's end or a signal ends it.
func (o *options) run(ctx context.Context, s *settings) error {
	d := daemon.Daemon{Stderr: o.stderr, LogJSON: o.LogJSON, StatusAddr: o.StatusAddr, Load: func() (daemon.App, error) {
		s, err := o.load(os.Environ())
		if err == nil {
			err = s.runnable()
		}
		return &app{settings: s}, err
	}}
	return d.Run(ctx, &app{settings: s})
}

// Open adds to the settings what a Tool needs beside them.
func (a *app) Open(log *slog.Logger, signals <-chan os.Signal) {
	s := a.settings
	cfg := s.tool
	cfg.Logger, cfg.Signals = log, signals
	if r, err := toolopts.Rollout(s.file.Apply, s.client, log); err == nil && r != nil { // load has checked it
		cfg.Rollout = r
	}
	cfg.OnReady = func() { daemon.Notify("READY=1") }
	a.Tool = envexec.New(cfg)
}

func (a *app) Common() daemon.Common { return a.settings.common() }

func (a *app) Prepare() error { return a.Check() }

func (a *app) LoadFailed() {}

func (a *app) Status() daemon.Status { return a.Tool.Status() }

func (a *app) Reconfigure(other daemon.App) bool {
	now, next := a.settings, other.(*app).settings
	if next.token != now.token || !reflect.DeepEqual(fixed(next.file), fixed(now.file)) {
		return false
	}
	a.settings = next
	a.Tool.Reconfigure(next.tool.Plan)
	return true
}

func (s *settings) common() daemon.Common {
	return daemon.Common{Level: s.level, PidFile: s.file.PidFile, Warnings: s.warnings, Signals: daemon.Signals{
		Kill: s.kill, Reload: s.reload, Supervising: true, Others: daemon.ForChild(),
	}}
}

// fixed is what cannot change while a Tool runs.
func fixed(c *config.Config) config.Config {
	f := *c
	f.Prefixes, f.Services, f.JSON, f.All, f.AllServices = nil, nil, nil, config.Prefix{}, config.Service{}
	f.Sanitize, f.Upcase, f.Pristine, f.Exec.Env = nil, false, false, cli.Env{}
	f.LogLevel, f.PidFile, f.ReloadSignal = "", "", nil
	return f
}
