package daemon

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/logx"
)

// writePID writes the file that -pid-file names, if it names one; remove removes it.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
		return nil, cli.Exit(cli.ExitConfig, fmt.Errorf("write pid file: %w", err))
	}
	return func() { _ = os.Remove(path) }, nil
}

// Notify tells systemd, if it started us, what we do.
func Notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, state)
}

// Log makes the log that a tool begins with, and writes the warnings to it.
func (c Common) Log(stderr *os.File, level *slog.LevelVar, json bool) *slog.Logger {
	level.Set(c.Level)
	log := logger(stderr, level, json)
	for _, text := range c.Warnings {
		log.Warn(text)
	}
	return log
}

// logger logs to a file that may be nil. What net/http logs about connections that an
// agent refuses has level debug: users cannot act on it.
func logger(f *os.File, level slog.Leveler, json bool) *slog.Logger {
	l := logx.Discard()
	if f != nil {
		l = logx.New(f, level, json)
	}
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(l.Handler(), slog.LevelDebug).Writer())
	return l
}
