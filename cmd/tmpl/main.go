// Tmpl renders templates from live data and runs a command after it.
//
//	tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/tmpl"
)

func main() {
	proc.GuardMain()
	proc.InitMain()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	o := &options{stdout: stdout, stderr: stderr}
	root := newCommand(o)
	root.SetOut(stdout)
	m := command.Main{Root: root, UsageCode: cli.ExitFlags, Stderr: stderr}
	return m.Run(context.Background(), args)
}

// start turns the flags into settings and lives by them until a signal says
// otherwise.
func start(ctx context.Context, o *options) error {
	if o.version {
		_, err := fmt.Fprintf(o.stdout, "tmpl %s (muster)\n", cli.Version())
		return err
	}
	s, err := o.load(os.Environ())
	if err != nil {
		return err
	}
	l := newLife(o, s)
	// What net/http says of connections that an agent refuses is no news to users.
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(l.log.Handler(), slog.LevelDebug).Writer())
	for _, text := range s.warnings {
		l.log.Warn(text)
	}
	if s.file.ParseOnly {
		return tmpl.New(l.config(s)).Parse()
	}
	remove, err := writePID(s.file.PidFile) // whoever reads it may send signals at once
	if err != nil {
		return err
	}
	defer remove()
	return l.run(ctx)
}

// writePID writes the file that -pid-file names, and gives the function that
// removes it.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
		return nil, cli.Exit(cli.ExitConfig, fmt.Errorf("write pid file: %w", err))
	}
	return func() { _ = os.Remove(path) }, nil
}

// notify tells systemd, if it started us, what we do.
func notify(state string) {
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

// newLogger logs to a file that may be nil.
func newLogger(f *os.File, level slog.Leveler, json bool) *slog.Logger {
	if f == nil {
		return logx.Discard()
	}
	return logx.New(f, level, json)
}
