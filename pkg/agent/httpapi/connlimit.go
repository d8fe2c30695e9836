package httpapi

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// The answer ends with the connection, which is closed after it.
	tooManyConns = "HTTP/1.1 429 Too Many Requests\r\n" +
		"Content-Type: text/plain\r\n" +
		"Retry-After: 1\r\n" +
		"Connection: close\r\n" +
		"\r\n" +
		"Your IP is issuing too many concurrent connections, please rate limit your calls\n"

	// A refused connection is kept for a moment after its answer, or the client's
	// unread request would reset it before the client has read. At most
	// maxLingering are kept at a time; past that they are cut.
	lingerTime   = time.Second
	lingerBytes  = 64 << 10
	maxLingering = 64
)

// ConnLimit bounds the connections of each client address over all the listeners
// it is put on; a connection too many is answered 429 and closed at once.
type ConnLimit struct {
	mu        sync.Mutex
	most      int
	open      map[netip.Addr]int
	lingering chan struct{}
}

// NewConnLimit makes a limit; zero or less is none.
func NewConnLimit(perClient int) *ConnLimit {
	return &ConnLimit{
		most:      perClient,
		open:      map[netip.Addr]int{},
		lingering: make(chan struct{}, maxLingering),
	}
}

// Set changes the limit. Open connections stay.
func (l *ConnLimit) Set(perClient int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = perClient
}

// Listener puts the limit on a listener. It belongs below TLS.
func (l *ConnLimit) Listener(ln net.Listener) net.Listener {
	return &limitedListener{Listener: ln, limit: l}
}

func (l *ConnLimit) take(ip netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most > 0 && l.open[ip] >= l.most {
		return false
	}
	l.open[ip]++
	return true
}

func (l *ConnLimit) release(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[ip]--; l.open[ip] <= 0 {
		delete(l.open, ip)
	}
}

type limitedListener struct {
	net.Listener
	limit *ConnLimit

	mu     sync.Mutex // orders the last refusals and Close
	closed bool
	wg     sync.WaitGroup
}

// Accept returns connections within the limit, and those whose address is not
// an IP (unix sockets).
func (ln *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err != nil {
			return conn, nil
		}
		ip := from.Addr().Unmap()
		if ln.limit.take(ip) {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { ln.limit.release(ip) })}, nil
		}
		ln.refuse(conn)
	}
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

func (ln *limitedListener) refuse(conn net.Conn) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		_ = conn.Close()
		return
	}
	select {
	case ln.limit.lingering <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	ln.wg.Go(func() {
		defer func() { <-ln.limit.lingering }()
		linger(conn)
	})
}

func linger(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	if _, err := io.WriteString(conn, tooManyConns); err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
