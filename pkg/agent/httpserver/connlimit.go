package httpserver

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/agent/conntable"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
)

// MaxConns is how many connections are open at once, over all clients; past it
// newcomers are answered 503.
const MaxConns = 16 << 10

const (
	// The answer ends with the connection, which is closed after it.
	tooManyConns = "HTTP/1.1 429 Too Many Requests\r\n" +
		"Content-Type: text/plain\r\n" +
		"Retry-After: 1\r\n" +
		"Connection: close\r\n" +
		"\r\n" +
		"Your IP is issuing too many concurrent connections, please rate limit your calls\n"

	tooManyAtAll = "HTTP/1.1 503 Service Unavailable\r\n" +
		"Content-Type: text/plain\r\n" +
		"Retry-After: 1\r\n" +
		"Connection: close\r\n" +
		"\r\n" +
		"This agent has too many connections open\n"

	// A refused connection is kept for a moment after its answer, or the client's
	// unread request would reset it before the client has read. At most
	// maxLingering are kept at a time; past that they are cut.
	lingerTime   = time.Second
	lingerBytes  = 64 << 10
	maxLingering = 64
)

// ConnLimit bounds the connections of each client address, and of all together,
// over all the listeners it is put on; a connection too many is answered 429 or
// 503 and closed at once. What a client does not take in ends its connection.
type ConnLimit struct {
	conns     *conntable.Table
	lingering chan struct{}
}

// NewConnLimit makes a limit; zero or less is none.
func NewConnLimit(perClient int) *ConnLimit {
	return &ConnLimit{
		conns:     conntable.New(conntable.Limits{PerAddress: perClient, Total: MaxConns}),
		lingering: make(chan struct{}, maxLingering),
	}
}

// Set changes the limit. Open connections stay.
func (l *ConnLimit) Set(perClient int) { l.conns.SetPerAddress(perClient) }

// Listener puts the limit on a listener. It belongs below TLS.
func (l *ConnLimit) Listener(ln net.Listener) net.Listener {
	out := &limitedListener{lingering: l.lingering}
	out.Listener = l.conns.Listener(ln, out.refuse)
	return out
}

type limitedListener struct {
	net.Listener
	lingering chan struct{}

	mu     sync.Mutex // orders the last refusals and Close
	closed bool
	wg     sync.WaitGroup
}

func (ln *limitedListener) Accept() (net.Conn, error) {
	conn, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn.(*conntable.Conn)}, nil
}

// Close also waits for the last refusals.
func (ln *limitedListener) Close() error {
	err := ln.Listener.Close()
	ln.mu.Lock()
	ln.closed = true
	ln.mu.Unlock()
	ln.wg.Wait()
	return err
}

func (ln *limitedListener) refuse(conn net.Conn, why error) {
	answer := tooManyAtAll
	if errors.Is(why, conntable.ErrAddress) {
		answer = tooManyConns
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		_ = conn.Close()
		return
	}
	select {
	case ln.lingering <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	ln.wg.Go(func() {
		defer func() { <-ln.lingering }()
		linger(conn, answer)
	})
}

func linger(conn net.Conn, answer string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	if _, err := io.WriteString(conn, answer); err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// limitedConn bounds how long a client may take to take in what is written.
type limitedConn struct {
	*conntable.Conn

	// deadline of writes, in Unix nanoseconds: of our own making, or set by a
	// handler that knows how long its answer may take.
	own, given atomic.Int64
}

// Write gives the client at least httpapi.WriteGrace to take in what is written, an
// answer of common size, if no handler has set another time. The deadline is
// moved far ahead, so that few writes have to move it.
func (c *limitedConn) Write(p []byte) (int, error) {
	if c.given.Load() == 0 {
		now := time.Now()
		if c.own.Load() < now.Add(httpapi.WriteGrace).UnixNano() {
			until := now.Add(2 * httpapi.WriteGrace)
			c.own.Store(until.UnixNano())
			if err := c.Conn.SetWriteDeadline(until); err != nil {
				return 0, err
			}
		}
	}
	return c.Conn.Write(p)
}

func (c *limitedConn) SetWriteDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *limitedConn) SetDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetDeadline(t)
}

func (c *limitedConn) note(t time.Time) {
	c.own.Store(0)
	if t.IsZero() {
		c.given.Store(0)
	} else {
		c.given.Store(t.UnixNano())
	}
}
