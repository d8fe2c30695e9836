package mux

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/broadcast"
)

const (
	// A peer that does not respond is detected within pingAfter + pingTimeout, during a
	// blocking query too. Without pings it would not be.
	pingAfter   = time.Second
	pingTimeout = time.Second

	// clientIdle is shorter than serverIdle, so that the dialling side closes first. It
	// never sends a request on a connection that the server is closing.
	clientIdle = 90 * time.Second
	serverIdle = 3 * time.Minute

	// settingsTimeout is how long a new connection waits for the server's limit of
	// requests (the SETTINGS frame). Until then the library assumes 100.
	settingsTimeout = time.Second
)

// Transport is an HTTP/2 client for https://ip:port/ addresses of server ports.
// All requests to one address share one connection. Bodies are not changed: what
// the other end compressed stays compressed.
//
// It manages its own connections. http.Transport dials for each request that finds no
// connection: hundreds of blocking queries that come back after a server's restart would
// dial hundreds of times, and their handshakes would cancel each other. Here all
// requests that wait share one dial and its error.
type Transport struct {
	inner *http.Transport // dials

	mu    sync.Mutex
	hosts map[string]*host // by address
}

// host is one address. It is removed when it has neither a connection nor a dial.
type host struct {
	conn *clientConn
	dial *dial
}

// dial is one in progress.
type dial struct {
	done chan struct{}
	err  error // set before done is closed
}

// clientConn is a connection that notifies of changes of its state.
type clientConn struct {
	*http.ClientConn
	opened  time.Time
	changed broadcast.Signal
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
			HTTP2:              &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
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

// CloseIdleConnections closes the connections without requests.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for addr, h := range t.hosts {
		if h.conn != nil && h.conn.InFlight() == 0 {
			_ = h.conn.Close()
			h.conn = nil
		}
		t.removeUnused(addr, h)
	}
}

// reserve returns a connection with a stream reserved for one request, or a function that
// waits until to try again. Its error proves that nothing was sent.
func (t *Transport) reserve(addr string) (*clientConn, func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[addr]
	if h == nil {
		h = new(host)
		t.hosts[addr] = h
	}
	if c := h.conn; c != nil {
		var changed <-chan struct{}
		if time.Since(c.opened) < settingsTimeout { // later nobody waits
			changed = c.changed.Changed() // before Reserve, to miss no change after it
		}
		if c.Reserve() == nil {
			return c, nil
		}
		if left := settingsTimeout - time.Since(c.opened); left > 0 && c.Err() == nil {
			return nil, func(ctx context.Context) error { return awaitChange(ctx, changed, left) }
		}
		h.conn = nil // it has ended, is ending, or is full: its requests go on
	}
	if h.dial == nil {
		h.dial = &dial{done: make(chan struct{})}
		go t.run(addr, h, h.dial)
	}
	return nil, h.dial.wait
}

// run dials. It ends at the Dialer's timeout, not with one of the requests.
func (t *Transport) run(addr string, h *host, d *dial) {
	cc, err := t.inner.NewClientConn(context.Background(), "https", addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		h.conn = &clientConn{ClientConn: cc, opened: time.Now()}
		// The hook runs inside calls to the connection, so it must take no other lock.
		notify := h.conn.changed.Notify
		cc.SetStateHook(func(*http.ClientConn) { notify() })
	}
	h.dial, d.err = nil, err
	close(d.done)
	t.removeUnused(addr, h)
}

// removeUnused is called with mu held.
func (t *Transport) removeUnused(addr string, h *host) {
	if h.conn == nil && h.dial == nil {
		delete(t.hosts, addr)
	}
}

func (d *dial) wait(ctx context.Context) error {
	select {
	case <-d.done:
		return d.err
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

func http2Only() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	return p
}
