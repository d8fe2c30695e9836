package agent

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
	drainTime         = 2 * time.Second

	// serverConnsPerIP is how many connections one address may have to the server
	// port: an agent has one, a server a few.
	serverConnsPerIP = 256
)

// warnOfOutsiders says once what whoever reaches the ports can do, as long as
// something could be done about it.
func warnOfOutsiders(log *slog.Logger, encrypted, verified, alone bool) {
	if alone {
		return // a development agent on 127.0.0.1
	}
	var missing, can []string
	if !encrypted {
		missing = append(missing, "encrypt")
		can = append(can, "whoever reaches the gossip port can join, read the membership, make members up and have living ones taken for failed")
	}
	if !verified {
		missing = append(missing, "tls.internal_rpc.ca_file, cert_file and key_file")
		can = append(can, "whoever reaches the server port can read and write everything and take part in raft")
	}
	if len(missing) > 0 {
		log.Warn("outsiders are not kept out: "+strings.Join(can, "; ")+": keep these ports to networks that you trust", "missing", missing)
	}
}

// web is the HTTP API on the client addresses.
type web struct {
	listeners []net.Listener
	handler   http.Handler
	maxHeader int
	log       *slog.Logger
}

// listenHTTP opens the client addresses, all or none.
func listenHTTP(cfg *config.Config, limit *httpapi.ConnLimit) ([]net.Listener, error) {
	var all []net.Listener
	for _, addr := range cfg.Listen.HTTP {
		ln, err := listen(addr, cfg.UnixSockets)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("listen for HTTP on %s: %w; set ports.http or client_addr to a free one", addr, err)
		}
		if ln.Addr().Network() == "tcp" {
			ln = limit.Listener(ln)
		}
		all = append(all, ln)
	}
	return all, nil
}

func closeAll(listeners []net.Listener) {
	for _, ln := range listeners {
		_ = ln.Close()
	}
}

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

// run serves until ctx ends. Blocked queries are answered first, with what they
// see at that moment.
func (w *web) run(ctx context.Context) error {
	if len(w.listeners) == 0 {
		<-ctx.Done()
		return nil
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	srv := &http.Server{
		Handler:           w.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    w.maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, len(w.listeners))
	for _, ln := range w.listeners {
		go func() { served <- srv.Serve(ln) }()
	}
	var err error
	running := len(w.listeners)
	select {
	case <-ctx.Done():
	case err = <-served:
		running--
	}
	cancel(httpapi.ErrStopping)
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer stop()
	if srv.Shutdown(drain) != nil {
		_ = srv.Close()
	}
	for range running {
		<-served
	}
	return err
}
