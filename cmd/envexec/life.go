package main

import (
	"context"
	"log/slog"
	"os"
	"reflect"

	"github.com/muster-dev/muster/cmd/internal/daemon"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/envexec/config"
	shared "github.com/muster-dev/muster/pkg/settings"
)

// live runs until the child's end or a signal ends it.
func (o *options) live(ctx context.Context, s *settings) error {
	return daemon.Program[*settings, *envexec.Tool]{
		Stderr: o.stderr, LogJSON: o.LogJSON, StatusAddr: o.StatusAddr,
		Basics: (*settings).basics, New: newTool,
		Status: func(tool *envexec.Tool) daemon.Reporter { return tool.Status() },
		Signals: func(s *settings) daemon.Signals {
			return daemon.Signals{Kill: s.kill, Reload: s.reload, Supervising: true, Others: daemon.ForChild()}
		},
		Load: func() (*settings, error) {
			s, err := o.load(os.Environ())
			if err == nil {
				err = s.runnable()
			}
			return s, err
		},
		Prepare: (*envexec.Tool).Check,
		Change: func(tool *envexec.Tool, _ *slog.Logger, now, next *settings) bool {
			if next.token != now.token || !reflect.DeepEqual(fixed(next.file), fixed(now.file)) {
				return false
			}
			tool.Reconfigure(next.tool.Plan)
			return true
		},
	}.Run(ctx, s)
}

func (s *settings) basics() daemon.Basics {
	return daemon.Basics{Level: s.level, PidFile: s.file.PidFile, Warnings: s.warnings}
}

// newTool adds to the settings what a Tool needs beside them.
func newTool(s *settings, log *slog.Logger, others <-chan os.Signal) *envexec.Tool {
	cfg := s.tool
	cfg.Logger, cfg.Signals = log, others
	if r, err := toolopts.Rollout(s.file.Apply, s.client, log); err == nil && r != nil { // settle has seen it
		cfg.Rollout = r
	}
	cfg.OnReady = func() { daemon.Notify("READY=1") }
	return envexec.New(cfg)
}

// fixed is what cannot change while a Tool runs.
func fixed(c *config.Config) config.Config {
	f := *c
	f.Prefixes, f.Services, f.JSON, f.All, f.AllServices = nil, nil, nil, config.Prefix{}, config.Service{}
	f.Sanitize, f.Upcase, f.Pristine, f.Exec.Env = nil, false, false, shared.Env{}
	f.LogLevel, f.PidFile, f.ReloadSignal = "", "", nil
	return f
}
