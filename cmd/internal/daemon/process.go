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

// WritePID writes the file that -pid-file names, if it does, and gives the function
// that removes it. Whoever reads it may send signals at once.
func WritePID(path string) (remove func(), err error) {
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

// Logger logs to a file that may be nil. What net/http says of connections that an
// agent refuses is no news to users: it goes there as debugging.
func Logger(f *os.File, level slog.Leveler, json bool) *slog.Logger {
	l := logx.Discard()
	if f != nil {
		l = logx.New(f, level, json)
	}
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(l.Handler(), slog.LevelDebug).Writer())
	return l
}
