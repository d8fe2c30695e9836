// Package logx makes structured loggers (log/slog), and adapts them for serf and
// memberlist, which need a standard logger. No component logs through a global logger:
// each gets one as an argument.
package logx

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
)

// LevelTrace is below slog's debug level.
const LevelTrace = slog.LevelDebug - 4

// ParseLevel reads trace, debug, info, warn (or warning), err or error, in any case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "trace":
		return LevelTrace, nil
	case "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "err", "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown log level %q: use trace, debug, info, warn or error", s)
}

// New makes a logger that writes text, or JSON lines, to w. The level may be a
// *slog.LevelVar, so that a reload can change it.
func New(w io.Writer, level slog.Leveler, json bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if json {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Discard drops everything.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Std makes a standard logger for serf and memberlist. It takes their level
// from the "[WARN] serf: " prefix that they put before each line.
func Std(l *slog.Logger) *log.Logger {
	return log.New(stdWriter{l}, "", 0)
}

type stdWriter struct{ log *slog.Logger }

func (w stdWriter) Write(p []byte) (int, error) {
	level, text := splitLevel(strings.TrimSpace(string(p)))
	w.log.Log(context.Background(), level, text)
	return len(p), nil
}

func splitLevel(line string) (slog.Level, string) {
	if !strings.HasPrefix(line, "[") {
		return slog.LevelInfo, line
	}
	name, rest, ok := strings.Cut(line[1:], "]")
	if !ok {
		return slog.LevelInfo, line
	}
	level, err := ParseLevel(name)
	if err != nil {
		return slog.LevelInfo, line
	}
	return level, strings.TrimSpace(rest)
}
