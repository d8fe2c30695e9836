package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/logx"
)

// stream is raft's StreamLayer over the listener and the dial function of the
// Config. It tracks every connection: raft's transport does not close those that it
// accepted when it is closed, and waits for answers on those that it dialled.
type stream struct {
	net.Listener
	cfg  Config
	fail func(error) // ends the Node's Run

	ctx    context.Context // ends all dials
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]*streamConn
	conns  sync.WaitGroup // raft closes each connection when it has finished with it

	logged logx.Once
}

var _ raft.StreamLayer = (*stream)(nil)

func newStream(cfg Config, fail func(error)) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	return &stream{
		Listener: cfg.Listener,
		cfg:      cfg,
		fail:     fail,
		ctx:      ctx,
		cancel:   cancel,
		open:     map[net.Conn]*streamConn{},
	}
}

// Addr is what raft sends to the others: the advertised address, not the bound one.
func (s *stream) Addr() net.Addr { return address(s.cfg.Address) }

func (s *stream) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c, s.acceptHandshake)
}

// Dial takes the addresses that package raft has from addresses.ServerAddr.
func (s *stream) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	id, addr := splitTarget(target)
	c, err := s.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	tracked, err := s.track(c, nil)
	if err != nil {
		return nil, err
	}
	if err := s.handshake(tracked, id, timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("ask for server %s at %s: %w", id, addr, err), tracked.Close())
	}
	return tracked, nil
}

func (s *stream) track(c net.Conn, handshake func(net.Conn) error) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	tracked := &streamConn{Conn: c, handshake: handshake, untrack: sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
		s.conns.Done()
	})}
	s.open[c] = tracked
	s.conns.Add(1)
	return tracked, nil
}

// receivedWithin says whether anything has arrived within a time on a connection that was
// accepted and is still open: its sender lives, because the end of a process closes its
// connections.
func (s *stream) receivedWithin(within time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		if at := c.heard.Load(); at != nil && time.Since(*at) < within {
			return true
		}
	}
	return false
}

// closeAll ends every connection and every dial, and allows no new one. Raft's
// goroutines get errors then.
func (s *stream) closeAll() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		// Below TLS, whose own Close waits for a peer that may be gone.
		if over, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = over.NetConn()
		}
		_ = c.Close()
	}
}

// waitFor waits for a group, limit at most. It returns false if that was not enough.
func waitFor(group *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		group.Wait()
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// streamConn is one connection. If it was accepted, its first read does the handshake.
type streamConn struct {
	net.Conn
	untrack   func()
	handshake func(net.Conn) error      // nil once it has been done, and where this end dialled
	heard     atomic.Pointer[time.Time] // when something came; nil where this end dialled
}

func (c *streamConn) Read(p []byte) (int, error) { // one goroutine of raft's reads
	if c.handshake != nil {
		if err := c.handshake(c.Conn); err != nil {
			return 0, err
		}
		c.handshake = nil
		c.heard.Store(&time.Time{})
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.heard.Load() != nil {
		now := time.Now()
		c.heard.Store(&now)
	}
	return n, err
}

func (c *streamConn) Close() error {
	c.untrack()
	return c.Conn.Close()
}

// address is an ip:port as a net.Addr.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }
