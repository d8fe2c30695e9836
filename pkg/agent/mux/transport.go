package mux

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// A peer that has gone silent is found out in pingAfter + pingWait, also in
	// the middle of a long poll; without pings it never would be.
	pingAfter = time.Second
	pingWait  = time.Second

	// clientIdle is shorter than serverIdle, so that the side that dials closes
	// first and never sends a request into a connection that is just ending.
	clientIdle = 90 * time.Second
	serverIdle = 3 * time.Minute

	// settingsWait is how long a new connection has to hear how many requests
	// the server takes. Until then the library assumes a hundred.
	settingsWait = time.Second
)

// Transport is an HTTP/2 client for https://ip:port/ addresses of server ports.
// All requests to one address share one connection. Bodies pass as they are:
// what the other end compressed stays compressed.
//
// It keeps its own connections. http.Transport dials once for each request that
// finds none yet, so that hundreds of long polls that come back after a server's
// restart would dial hundreds of times, and their handshakes would push each
// other out. Here one attempt serves, or fails for, all who wait for it.
type Transport struct {
	inner *http.Transport // makes the connections

	mu    sync.Mutex
	hosts map[string]*host // by address
}

// host is one address. Without a connection and an attempt it is forgotten.
type host struct {
	conn    *clientConn
	attempt *attempt
}

// attempt is a dial under way.
type attempt struct {
	done chan struct{}
	err  error // set before done is closed
}

// clientConn is a connection, and tells who waits when its state has changed.
type clientConn struct {
	*http.ClientConn
	born time.Time

	mu      sync.Mutex    // below Transport.mu
	changed chan struct{} // nil: nobody waits
}

// Transport makes a Transport over this Dialer.
func (d *Dialer) Transport() *Transport {
	return &Transport{
		hosts: map[string]*host{},
		inner: &http.Transport{
			DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				return d.Dial(ctx, addr, ProtoHTTP)
			},
			Protocols:          http2Only(),
			HTTP2:              &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait},
			IdleConnTimeout:    clientIdle,
			DisableCompression: true,
		},
	}
}

// RoundTrip sends one request.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		conn, wait := t.reserve(req.URL.Host)
		if conn != nil {
			return conn.RoundTrip(req)
		}
		if err := wait(req.Context()); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
	}
}

// CloseIdleConnections closes the connections that carry no request.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for addr, h := range t.hosts {
		if h.conn != nil && h.conn.InFlight() == 0 {
			_ = h.conn.Close()
			h.conn = nil
		}
		t.sweep(addr, h)
	}
}

// reserve gives a connection with a place for one request, or what to wait for
// before it is worth trying again. An error from waiting proves that nothing
// was sent.
func (t *Transport) reserve(addr string) (*clientConn, func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[addr]
	if h == nil {
		h = new(host)
		t.hosts[addr] = h
	}
	if c := h.conn; c != nil {
		changed := c.watch() // before Reserve, to miss no change after it
		if c.Reserve() == nil {
			return c, nil
		}
		if left := settingsWait - time.Since(c.born); left > 0 && c.Err() == nil {
			return nil, func(ctx context.Context) error { return awaitChange(ctx, changed, left) }
		}
		h.conn = nil // it has ended, is going to, or is full: what it carries goes on
	}
	if h.attempt == nil {
		h.attempt = &attempt{done: make(chan struct{})}
		go t.dial(addr, h, h.attempt)
	}
	return nil, h.attempt.wait
}

// dial ends by itself, at the Dialer's timeout: it belongs to no one request.
func (t *Transport) dial(addr string, h *host, a *attempt) {
	cc, err := t.inner.NewClientConn(context.Background(), "https", addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		h.conn = &clientConn{ClientConn: cc, born: time.Now()}
		cc.SetStateHook(h.conn.stateHook)
	}
	h.attempt, a.err = nil, err
	close(a.done)
	t.sweep(addr, h)
}

// sweep forgets an address that is of no use any more. The caller holds mu.
func (t *Transport) sweep(addr string, h *host) {
	if h.conn == nil && h.attempt == nil {
		delete(t.hosts, addr)
	}
}

func (a *attempt) wait(ctx context.Context) error {
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func awaitChange(ctx context.Context, changed <-chan struct{}, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watch gives a channel that is closed at the next change. Only a young
// connection needs it.
func (c *clientConn) watch() <-chan struct{} {
	if time.Since(c.born) > settingsWait {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// stateHook runs inside calls to the connection, so it takes no other lock.
func (c *clientConn) stateHook(*http.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func http2Only() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	return p
}
