// Package mux shares an agent's server port between two protocols. Every
// connection is TLS 1.3, and ALPN names its protocol: "h2" is the HTTP API
// between agents, "raft" is raft's stream.
//
// A Mux accepts a connection, does the handshake and gives the connection to the
// listener of its protocol. A Dialer connects to the Mux of another agent. Both have
// the same Identity. The Mux promises that no connection delays another one, be it
// random bytes, a handshake that does not end or a protocol that nobody serves:
// handshakes have a deadline and a limit, and above the limit the oldest is cancelled.
package mux

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/agent/conntable"
	"github.com/muster-dev/muster/pkg/retry"
)

// The protocols of the port, by their ALPN names.
const (
	ProtoHTTP = "h2"
	ProtoRaft = "raft"
)

// Backoff after an error of Accept that does not close the listener, such as too
// many open files.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Config is what a Mux needs.
type Config struct {
	Listener net.Listener // TCP; Run closes it
	Identity *Identity

	HandshakeTimeout time.Duration // also for the protocol's Accept
	MaxHandshakes    int           // at a time
	MaxConnsPerIP    int           // open at a time; 0 is no limit
	MaxConns         int           // open at a time

	Logger *slog.Logger
}

// Mux is one shared port.
type Mux struct {
	cfg   Config
	tls   *tls.Config
	http  *listener
	raft  *listener
	conns *conntable.Table

	running    sync.WaitGroup // handshakes
	handshakes handshakes
}

// New makes a Mux that accepts nothing before Run.
func New(cfg Config) *Mux {
	return &Mux{
		cfg:   cfg,
		tls:   cfg.Identity.server(),
		http:  newListener(cfg.Listener.Addr()),
		raft:  newListener(cfg.Listener.Addr()),
		conns: conntable.New(conntable.Limits{PerAddress: cfg.MaxConnsPerIP, Total: cfg.MaxConns}),
	}
}

// HTTP yields the HTTP/2 connections. They are of type *tls.Conn, by which net/http
// recognises HTTP/2.
func (m *Mux) HTTP() net.Listener { return m.http }

// Raft yields raft's connections. The first read fails if nothing arrives within the
// handshake timeout.
func (m *Mux) Raft() net.Listener { return m.raft }

// Run accepts connections until ctx ends. Then it closes the port, both listeners and
// every open connection. Stop the HTTP server and raft before, for a graceful end.
func (m *Mux) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = m.cfg.Listener.Close() })
	defer func() {
		cancel()
		if stop() {
			_ = m.cfg.Listener.Close()
		}
		_ = m.http.Close()
		_ = m.raft.Close()
		m.conns.Close()
		m.running.Wait()
	}()
	return m.accept(ctx)
}

func (m *Mux) accept(ctx context.Context) error {
	backoff := retry.Backoff{First: minBackoff, Max: maxBackoff}
	for {
		raw, err := m.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = raw.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", m.cfg.Listener.Addr(), err)
		case err != nil:
			pause := backoff.Next()
			m.cfg.Logger.Warn("cannot accept a connection, trying again", "addr", m.cfg.Listener.Addr(), "pause", pause, "err", err)
			_ = retry.Sleep(ctx, pause) // Accept fails if ctx has ended
			continue
		}
		backoff.Reset()
		m.start(ctx, raw)
	}
}

// start starts the handshake of one connection in its own goroutine.
func (m *Mux) start(ctx context.Context, raw net.Conn) {
	conn, err := m.conns.Add(raw) // below TLS, so that the listeners yield a *tls.Conn
	if err != nil {
		m.cfg.Logger.Debug("connection refused", "remote", raw.RemoteAddr(), "err", err)
		_ = raw.Close()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	added := m.handshakes.add(cancel, m.cfg.MaxHandshakes)
	m.running.Go(func() {
		defer cancel()
		defer m.handshakes.remove(added)
		if err := m.handshake(ctx, conn); err != nil {
			m.cfg.Logger.Debug("connection dropped", "remote", raw.RemoteAddr(), "err", err)
			_ = conn.Close()
		}
	})
}

// handshake does the TLS handshake and gives the connection to its protocol's listener.
func (m *Mux) handshake(ctx context.Context, conn net.Conn) error {
	tc := tls.Server(conn, m.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	switch proto := tc.ConnectionState().NegotiatedProtocol; proto {
	case ProtoHTTP:
		return m.http.give(ctx, tc)
	case ProtoRaft:
		return m.raft.give(ctx, &firstReadConn{Conn: tc, timeout: m.cfg.HandshakeTimeout})
	default:
		return fmt.Errorf("the other end asked for no protocol: this port speaks %s and %s", ProtoHTTP, ProtoRaft)
	}
}

// listener is the net.Listener of one protocol.
type listener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newListener(addr net.Addr) *listener {
	l := &listener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Close() error {
	l.close()
	return nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed: // a closed listener yields nothing, even if a connection is ready
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// give waits for Accept.
func (l *listener) give(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.closed:
		return errors.New("its protocol is not served")
	case <-ctx.Done():
		return fmt.Errorf("its protocol did not accept it: %w", ctx.Err())
	}
}

// handshakes are those in progress, oldest first.
type handshakes struct {
	mu      sync.Mutex
	cancels list.List // of context.CancelFunc
}

// add adds a handshake. At the limit it cancels the oldest: a handshake takes
// milliseconds, so the oldest is the least likely to end.
func (h *handshakes) add(cancel context.CancelFunc, limit int) *list.Element {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.cancels.Len() >= limit {
		oldest := h.cancels.Remove(h.cancels.Front()).(context.CancelFunc)
		oldest()
	}
	return h.cancels.PushBack(cancel)
}

// remove does nothing if add has removed e.
func (h *handshakes) remove(e *list.Element) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancels.Remove(e)
}

// firstReadConn limits the time of the first read. Raft dials when it has something to
// send, and reads without a deadline.
type firstReadConn struct {
	*tls.Conn
	timeout time.Duration
	read    bool // something was; for the reader only
}

func (c *firstReadConn) Read(p []byte) (int, error) {
	if c.read {
		return c.Conn.Read(p)
	}
	_ = c.SetReadDeadline(time.Now().Add(c.timeout))
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.read = true
		_ = c.SetReadDeadline(time.Time{})
	}
	return n, err
}
