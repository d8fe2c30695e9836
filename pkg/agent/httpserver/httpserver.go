// Package httpserver listens on an agent's client addresses, TCP and unix sockets,
// and serves the HTTP API there.
//
// What it promises: the addresses are opened all or none; connections are bounded,
// of each client and in all, and a refused one is told why; who takes no answer in
// loses its connection; at the end blocked reads are answered first.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 1500 * time.Millisecond // for the answers that are under way: a server is to end within 2 s
)

// Server is the HTTP API on the client addresses.
type Server struct {
	listeners []net.Listener
	limit     *ConnLimit
}

// Listen opens the addresses, "host:port" or "unix://path", all or none. A client
// address may have perClient connections; zero or less is no limit. The caller
// closes the server, or runs it.
func Listen(addrs []string, sockets config.UnixSockets, perClient int) (*Server, error) {
	s := &Server{limit: NewConnLimit(perClient)}
	for _, addr := range addrs {
		ln, err := listen(addr, sockets)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("listen for HTTP on %s: %w; set ports.http or client_addr to a free one", addr, err)
		}
		if ln.Addr().Network() == "tcp" {
			ln = s.limit.Listener(ln)
		}
		s.listeners = append(s.listeners, ln)
	}
	return s, nil
}

// Close closes what Listen opened.
func (s *Server) Close() {
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
}

// SetConnsPerClient changes the limit of connections. Open ones stay.
func (s *Server) SetConnsPerClient(limit int) { s.limit.Set(limit) }

func listen(addr string, sockets config.UnixSockets) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix://")
	if !ok {
		return net.Listen("tcp", addr)
	}
	// A socket that nobody listens on was left by an agent that was killed.
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, errors.New("another process listens on it")
	} else if info, statErr := os.Lstat(path); statErr == nil && info.Mode().Type() == fs.ModeSocket {
		_ = os.Remove(path)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := own(path, sockets); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// own gives a socket the configured owner and mode.
func own(path string, s config.UnixSockets) error {
	if mode, err := s.FileMode(); err != nil {
		return err
	} else if mode != 0 {
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	if s.User == "" && s.Group == "" {
		return nil
	}
	uid, err := idOf(s.User, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return fmt.Errorf("unix_sockets.user: %w", err)
	}
	gid, err := idOf(s.Group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return fmt.Errorf("unix_sockets.group: %w", err)
	}
	return os.Chown(path, uid, gid)
}

// idOf is the number of a user or group given by name or number; -1 for "".
func idOf(name string, lookup func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	id, err := lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(id)
}

// Run serves until ctx ends. Blocked queries are answered first, with what they
// see at that moment. maxHeader is the limit of a request's headers in bytes.
func (s *Server) Run(ctx context.Context, handler http.Handler, maxHeader int, log *slog.Logger) error {
	if len(s.listeners) == 0 {
		<-ctx.Done()
		return nil
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, len(s.listeners))
	for _, ln := range s.listeners {
		go func() { served <- srv.Serve(ln) }()
	}
	var err error
	running := len(s.listeners)
	select {
	case <-ctx.Done():
	case err = <-served:
		running--
	}
	cancel(httpapi.ErrStopping)
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer stop()
	if srv.Shutdown(last) != nil {
		_ = srv.Close()
	}
	for range running {
		<-served
	}
	return err
}
