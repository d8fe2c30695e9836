package main

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/life"
	"github.com/muster-dev/muster/cmd/internal/status"
	"github.com/muster-dev/muster/cmd/internal/toolflags"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/config"
)

// toolConfig is what a Tool needs beside what the settings say.
func toolConfig(s *settings, log *slog.Logger, others <-chan os.Signal) tmpl.Config {
	cfg := s.tool
	cfg.Logger, cfg.Signals = log, others
	if r, err := toolflags.Rollout(s.file.Apply, s.client, log); err == nil && r != nil { // settings have seen it
		cfg.Rollout = r
	}
	cfg.OnReady = func() { life.Notify("READY=1") }
	return cfg
}

// live runs until a signal or the Tool's end ends it.
func (o *options) live(ctx context.Context, s *settings, log *slog.Logger, level *slog.LevelVar) error {
	l := life.New(life.Config[*settings, *tmpl.Tool]{
		Logger: log,
		New: func(s *settings, others <-chan os.Signal) *tmpl.Tool {
			return tmpl.New(toolConfig(s, log, others))
		},
		Signals: (*settings).meanings,
		Load:    func() (*settings, error) { return o.load(os.Environ()) },
		Failed:  (*tmpl.Tool).Reload, // the templates may be fine
		Change: func(tool *tmpl.Tool, now, next *settings) bool {
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
			tool.Reconfigure(next.tool.Templates, next.tool.Wait)
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

// meanings are those of signals.
func (s *settings) meanings() life.Signals {
	out := life.Signals{Kill: s.kill, Reload: s.reload}
	if s.tool.Exec.Command != "" {
		out.Others = append(out.Others, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	}
	if len(s.tool.Supervise.Command) > 0 && !s.tool.Dry {
		out.Supervising = true
		out.Others = append(out.Others, life.ForChild()...)
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
