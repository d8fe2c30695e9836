package dns

import (
	"net"
	"net/netip"
	"sync"
)

// capped is a listener whose connections are bounded, in all and for each
// client. One too many is closed, so that nobody waits for somebody else's to
// end.
type capped struct {
	net.Listener
	perClient, most int

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

func newCapped(ln net.Listener, perClient, most int) *capped {
	return &capped{Listener: ln, perClient: perClient, most: most, open: map[netip.Addr]int{}}
}

func (c *capped) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		client := from.Addr().Unmap()
		if c.take(client) {
			return &cappedConn{conn, sync.OnceFunc(func() { c.release(client) })}, nil
		}
		_ = conn.Close()
	}
}

func (c *capped) take(client netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.open[client] >= c.perClient {
		return false
	}
	c.all++
	c.open[client]++
	return true
}

func (c *capped) release(client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.open[client]--; c.open[client] == 0 {
		delete(c.open, client)
	}
}

type cappedConn struct {
	net.Conn
	release func()
}

func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
