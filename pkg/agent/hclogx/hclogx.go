// Package hclogx adapts a structured logger for raft and autopilot, which want an hclog.
// What they log again and again becomes one line a minute.
package hclogx

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-dev/muster/pkg/logx"
)

// New makes the logger that they want. A record that is repeated is logged once, and
// then once a minute with the number of repetitions; in between it has level debug.
func New(l *slog.Logger) hclog.Logger { return hc{log: l, repeats: newRepeats()} }

type hc struct {
	log  *slog.Logger
	name string
	with []any

	repeats *repeats
}

// formatted resolves hclog.Fmt values: a format with its arguments.
func formatted(args []any) []any {
	for i, arg := range args {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	return args
}

func (h hc) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h hc) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h hc) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h hc) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h hc) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h hc) enabled(level slog.Level) bool {
	return h.log.Enabled(context.Background(), level)
}

func (h hc) IsTrace() bool { return h.enabled(logx.LevelTrace) }
func (h hc) IsDebug() bool { return h.enabled(slog.LevelDebug) }
func (h hc) IsInfo() bool  { return h.enabled(slog.LevelInfo) }
func (h hc) IsWarn() bool  { return h.enabled(slog.LevelWarn) }
func (h hc) IsError() bool { return h.enabled(slog.LevelError) }

func (h hc) ImpliedArgs() []any { return h.with }
func (h hc) Name() string       { return h.name }

func (h hc) With(args ...any) hclog.Logger {
	all := append(append([]any{}, h.with...), args...)
	return hc{log: h.log.With(args...), name: h.name, with: all, repeats: h.repeats}
}

func (h hc) Named(name string) hclog.Logger {
	if h.name != "" {
		name = h.name + "." + name
	}
	return h.ResetNamed(name)
}

func (h hc) ResetNamed(name string) hclog.Logger {
	return hc{log: h.log, name: name, with: h.with, repeats: h.repeats}
}

// SetLevel does nothing: the level belongs to whoever made the logger.
func (h hc) SetLevel(hclog.Level) {}

func (h hc) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if h.enabled(slogLevel(level)) {
			return level
		}
	}
	return hclog.Error
}

func (h hc) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger { return logx.Std(h.log) }

func (h hc) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return logx.Std(h.log).Writer() }

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return logx.LevelTrace
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}
