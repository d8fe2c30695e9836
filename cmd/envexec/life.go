package main

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"slices"

	"github.com/muster-dev/muster/cmd/internal/life"
	"github.com/muster-dev/muster/cmd/internal/status"
	"github.com/muster-dev/muster/cmd/internal/toolflags"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/envexec/config"
	shared "github.com/muster-dev/muster/pkg/settings"
)

// live runs until the child's end or a signal ends it.
func (o *options) live(ctx context.Context, s *settings, log *slog.Logger, level *slog.LevelVar) error {
	l := life.New(life.Config[*settings, *envexec.Tool]{
		Logger: log,
		New: func(s *settings, others <-chan os.Signal) *envexec.Tool {
			cfg := s.tool
			cfg.Logger, cfg.Signals = log, others
			if r, err := toolflags.Rollout(s.file.Apply, s.client, log); err == nil && r != nil { // settle has seen it
				cfg.Rollout = r
			}
			cfg.OnReady = func() { life.Notify("READY=1") }
			return envexec.New(cfg)
		},
		Signals: func(s *settings) life.Signals {
			return life.Signals{Kill: s.kill, Reload: s.reload, Supervising: true, Others: life.ForChild()}
		},
		Load: func() (*settings, error) {
			s, err := o.load(os.Environ())
			if err == nil {
				err = s.runnable()
			}
			return s, err
		},
		Change: func(tool *envexec.Tool, now, next *settings) bool {
			if !slices.Equal(next.warnings, now.warnings) {
				for _, text := range next.warnings {
					log.Warn(text)
				}
			}
			if next.file.PidFile != now.file.PidFile {
				log.Warn("another pid_file is used from the next start on", "pid_file", next.file.PidFile)
			}
			level.Set(next.level)
			if next.token != now.token || !reflect.DeepEqual(fixed(next.file), fixed(now.file)) {
				return false
			}
			tool.Reconfigure(next.tool.Plan)
			return true
		},
	}, s)
	stop, err := status.Serve(o.StatusAddr, log,
		func() any { return l.Tool().Status() }, func() string { return l.Tool().Status().Metrics() })
	if err != nil {
		return err
	}
	defer stop()
	return l.Run(ctx)
}

// fixed is what cannot change while a Tool runs.
func fixed(c *config.Config) config.Config {
	f := *c
	f.Prefixes, f.Services, f.JSON, f.All, f.AllServices = nil, nil, nil, config.Prefix{}, config.Service{}
	f.Sanitize, f.Upcase, f.Pristine, f.Exec.Env = nil, false, false, shared.Env{}
	f.LogLevel, f.PidFile, f.ReloadSignal = "", "", nil
	return f
}
