package daemon

import (
	"context"
	"log/slog"
	"os"
	"slices"

	"github.com/muster-dev/muster/cmd/internal/status"
	"github.com/muster-dev/muster/pkg/cli"
)

// Basics are what every tool's settings have.
type Basics struct {
	Level    slog.Level
	PidFile  string
	Warnings []string // for the log
}

// Log makes the log that a tool begins with.
func (b Basics) Log(stderr *os.File, level *slog.LevelVar, json bool) *slog.Logger {
	level.Set(b.Level)
	log := Logger(stderr, level, json)
	for _, text := range b.Warnings {
		log.Warn(text)
	}
	return log
}

// Reporter is what a tool says of itself.
type Reporter interface{ Metrics() string }

// Program is a reacting tool as a whole: its log, its pid file, what it says of itself,
// and its Life.
type Program[S any, T Tool] struct {
	Stderr     *os.File
	LogJSON    bool
	StatusAddr string

	Basics  func(S) Basics
	New     func(s S, log *slog.Logger, others <-chan os.Signal) T
	Signals func(S) Signals
	Load    func() (S, error)
	Failed  func(T)       // as in Config
	Prepare func(T) error // as in Config
	Status  func(T) Reporter
	// Change has the tool take in what differs; false: it needs a new one.
	Change func(tool T, log *slog.Logger, now, next S) bool
}

// Run lives by s until a signal or the tool's end ends it.
func (p Program[S, T]) Run(ctx context.Context, s S) error {
	cli.SurvivePipes()
	level := &slog.LevelVar{}
	log := p.Basics(s).Log(p.Stderr, level, p.LogJSON)
	l := New(Config[S, T]{
		Logger:  log,
		New:     func(s S, others <-chan os.Signal) T { return p.New(s, log, others) },
		Signals: p.Signals, Load: p.Load, Failed: p.Failed, Prepare: p.Prepare,
		Change: func(tool T, now, next S) bool {
			before, after := p.Basics(now), p.Basics(next)
			if !slices.Equal(before.Warnings, after.Warnings) {
				for _, text := range after.Warnings {
					log.Warn(text)
				}
			}
			if before.PidFile != after.PidFile {
				log.Warn("another pid_file is used from the next start on", "pid_file", after.PidFile)
			}
			level.Set(after.Level)
			return p.Change(tool, log, now, next)
		},
	}, s)
	l.listen(s) // whoever reads the file may send a signal at once
	remove, err := WritePID(p.Basics(s).PidFile)
	if err != nil {
		return err
	}
	defer remove()
	stop, err := status.Serve(p.StatusAddr, log,
		func() any { return p.Status(l.Tool()) }, func() string { return p.Status(l.Tool()).Metrics() })
	if err != nil {
		return err
	}
	defer stop()
	return l.Run(ctx)
}
