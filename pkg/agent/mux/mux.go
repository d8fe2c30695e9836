// Package mux shares an agent's server port between two protocols. Every
// connection is TLS 1.3, and ALPN says what it carries: "h2" is the HTTP API
// between agents, "raft" is raft's stream.
//
// A Mux accepts, shakes hands and hands each connection to the listener of its
// protocol; a Dialer makes connections to the Mux of another agent. Both hold
// the same Identity. The Mux promises that neither random bytes nor a handshake
// that never ends, nor a protocol that nobody serves, holds up anybody else:
// handshakes have a deadline and a cap, and past the cap the oldest gives way.
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
)

// The protocols of the port, by their ALPN names.
const (
	ProtoHTTP = "h2"
	ProtoRaft = "raft"
)

const (
	defaultHandshakeTimeout = 5 * time.Second
	defaultMaxHandshakes    = 256
	defaultMaxConns         = 8192

	// Accept errors that are not the listener's end, such as too many open
	// files, are tried again after these pauses.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// Config is what a Mux needs. Zero values take the defaults.
type Config struct {
	Listener net.Listener // TCP; Run closes it
	Identity *Identity

	HandshakeTimeout time.Duration // 5 s; also the time a protocol has to take a connection over
	MaxHandshakes    int           // 256 under way at once
	MaxConnsPerIP    int           // no limit
	MaxConns         int           // 8192 open at once

	Logger *slog.Logger
}

// Mux is one shared port.
type Mux struct {
	cfg   Config
	tls   *tls.Config
	http  *listener
	raft  *listener
	conns *conntable.Table

	handshakes sync.WaitGroup
	pending    queue
}

// New makes a Mux that accepts nothing before Run.
func New(cfg Config) *Mux {
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = defaultHandshakeTimeout
	}
	if cfg.MaxHandshakes == 0 {
		cfg.MaxHandshakes = defaultMaxHandshakes
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	return &Mux{
		cfg:   cfg,
		tls:   cfg.Identity.server(),
		http:  newListener(cfg.Listener.Addr()),
		raft:  newListener(cfg.Listener.Addr()),
		conns: conntable.New(conntable.Limits{PerAddress: cfg.MaxConnsPerIP, Total: cfg.MaxConns}),
	}
}

// HTTP yields the connections that speak HTTP/2. They are *tls.Conn themselves,
// because net/http recognises HTTP/2 by that type.
func (m *Mux) HTTP() net.Listener { return m.http }

// Raft yields the connections that speak raft: one that says nothing for the time
// of a handshake fails its first read.
func (m *Mux) Raft() net.Listener { return m.raft }

// Run accepts connections until ctx ends. Then it closes the port, both
// listeners and every connection that is still open: who wants to end in order
// stops the HTTP server and raft before.
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
		m.handshakes.Wait()
	}()
	return m.accept(ctx)
}

func (m *Mux) accept(ctx context.Context) error {
	pause := minAcceptPause
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
			m.cfg.Logger.Warn("cannot accept a connection, trying again", "addr", m.cfg.Listener.Addr(), "pause", pause, "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = minAcceptPause
		m.begin(ctx, raw)
	}
}

// begin starts the handshake of one connection, in a goroutine of its own.
func (m *Mux) begin(ctx context.Context, raw net.Conn) {
	conn, err := m.conns.Add(raw) // below TLS: what is above stays a plain *tls.Conn
	if err != nil {
		m.cfg.Logger.Debug("connection refused", "remote", raw.RemoteAddr(), "err", err)
		_ = raw.Close()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	mine := m.pending.add(cancel, m.cfg.MaxHandshakes)
	m.handshakes.Go(func() {
		defer cancel()
		defer m.pending.remove(mine)
		if err := m.hand(ctx, conn); err != nil {
			m.cfg.Logger.Debug("connection dropped", "remote", raw.RemoteAddr(), "err", err)
			_ = conn.Close()
		}
	})
}

// hand shakes hands and gives the connection to its protocol's listener.
func (m *Mux) hand(ctx context.Context, conn net.Conn) error {
	tc := tls.Server(conn, m.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	switch proto := tc.ConnectionState().NegotiatedProtocol; proto {
	case ProtoHTTP:
		return m.http.deliver(ctx, tc)
	case ProtoRaft:
		return m.raft.deliver(ctx, &spokenConn{Conn: tc, limit: m.cfg.HandshakeTimeout})
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
	case <-l.closed: // a closed listener yields nothing, whoever is waiting
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

func (l *listener) deliver(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.closed:
		return errors.New("nobody serves its protocol")
	case <-ctx.Done():
		return fmt.Errorf("nobody took it over: %w", ctx.Err())
	}
}

// queue notes the handshakes under way, oldest first.
type queue struct {
	mu      sync.Mutex
	pending list.List // of context.CancelFunc
}

// add notes a handshake. At the limit it ends the oldest one: a handshake takes
// milliseconds, so the oldest is the one that is going nowhere.
func (q *queue) add(cancel context.CancelFunc, limit int) *list.Element {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.pending.Len() >= limit {
		oldest := q.pending.Remove(q.pending.Front()).(context.CancelFunc)
		oldest()
	}
	return q.pending.PushBack(cancel)
}

func (q *queue) remove(e *list.Element) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending.Remove(e) // does nothing for one that has given way
}

// spokenConn gives who dialled raft a limited time to say something: raft dials
// when it has something to say, and reads without a deadline of its own.
type spokenConn struct {
	*tls.Conn
	limit  time.Duration
	spoken bool // only the reader's
}

func (c *spokenConn) Read(p []byte) (int, error) {
	if c.spoken {
		return c.Conn.Read(p)
	}
	_ = c.SetReadDeadline(time.Now().Add(c.limit))
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.spoken = true
		_ = c.SetReadDeadline(time.Time{})
	}
	return n, err
}
