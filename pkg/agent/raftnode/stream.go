package raftnode

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream is raft's StreamLayer over the listener and the dial function of the
// Config. It knows every connection: raft's transport leaves the ones that it
// accepted open when it is closed, and waits for answers on those it dialled.
type stream struct {
	net.Listener
	advertised address
	dial       func(ctx context.Context, addr string) (net.Conn, error)

	ctx    context.Context // ends all dials
	cancel context.CancelFunc

	mu      sync.Mutex
	dropped bool
	open    map[net.Conn]struct{}
	users   sync.WaitGroup // raft closes each connection when it is done with it
}

var _ raft.StreamLayer = (*stream)(nil)

func newStream(cfg Config) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	return &stream{
		Listener:   cfg.Listener,
		advertised: address(cfg.Address),
		dial:       cfg.Dial,
		ctx:        ctx,
		cancel:     cancel,
		open:       map[net.Conn]struct{}{},
	}
}

// Addr is what raft tells the others, so it is the advertised address and not
// the one that is bound.
func (s *stream) Addr() net.Addr { return s.advertised }

func (s *stream) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := s.dial(ctx, string(addr))
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

func (s *stream) track(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s.open[c] = struct{}{}
	s.users.Add(1)
	return &streamConn{Conn: c, forget: sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
		s.users.Done()
	})}, nil
}

// drop ends every connection and every dial, and lets no new one begin. Raft's
// goroutines notice by the errors.
func (s *stream) drop() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = true
	for c := range s.open {
		// Below TLS, whose own Close waits to say goodbye to a peer that may be gone.
		if over, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = over.NetConn()
		}
		_ = c.Close()
	}
}

// wait waits until raft has let go of every connection.
func (s *stream) wait(limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.users.Wait()
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

type streamConn struct {
	net.Conn
	forget func()
}

func (c *streamConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// address is an ip:port as a net.Addr.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// addresses is raft's ServerAddressProvider: a server that moved is dialled
// where gossip sees it.
type addresses struct {
	of   func(id string) (addr string, ok bool)
	raft func() *raft.Raft
}

func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if addr, ok := a.of(string(id)); ok {
		return raft.ServerAddress(addr), nil
	}
	if r := a.raft(); r != nil {
		for _, server := range r.GetConfiguration().Configuration().Servers {
			if server.ID == id {
				return server.Address, nil
			}
		}
	}
	return "", errors.New("neither gossip nor raft's configuration knows it")
}
