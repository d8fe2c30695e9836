package gossip

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// memNet carries packets and streams between members in memory. Like UDP, and
// unlike memberlist's own mock, it drops what nobody reads in time.
type memNet struct {
	lock  sync.Mutex
	nodes map[string]*memTransport
	down  map[string]bool
	loss  float64 // of packets
}

func newMemNet() *memNet {
	return &memNet{nodes: map[string]*memTransport{}, down: map[string]bool{}}
}

// setDown cuts an address off, or connects it again.
func (n *memNet) setDown(addr string, down bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.down[addr] = down
}

func (n *memNet) route(from, to string, lossy bool) (*memTransport, bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.down[from] || n.down[to] || lossy && rand.Float64() < n.loss {
		return nil, false
	}
	t, ok := n.nodes[to]
	return t, ok
}

type memTransport struct {
	net     *memNet
	addr    *net.UDPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (n *memNet) attach(ip string) *memTransport {
	t := &memTransport{
		net: n, addr: &net.UDPAddr{IP: net.ParseIP(ip).To4(), Port: 8301},
		packets: make(chan *memberlist.Packet, 512), streams: make(chan net.Conn, 64),
	}
	n.lock.Lock()
	defer n.lock.Unlock()
	n.nodes[t.addr.String()] = t
	return t
}

func (t *memTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.IP, t.addr.Port, nil
}

func (t *memTransport) WriteTo(b []byte, to string) (time.Time, error) {
	now := time.Now()
	if dst, ok := t.net.route(t.addr.String(), to, true); ok {
		select {
		case dst.packets <- &memberlist.Packet{Buf: append([]byte{}, b...), From: t.addr, Timestamp: now}:
		default:
		}
	}
	return now, nil
}

func (t *memTransport) DialTimeout(to string, _ time.Duration) (net.Conn, error) {
	dst, ok := t.net.route(t.addr.String(), to, false)
	if !ok {
		return nil, errors.New("refused by the test's network: " + to)
	}
	near, far := net.Pipe()
	select {
	case dst.streams <- namedConn{far, t.addr}:
		return near, nil
	default:
		return nil, errors.New("too many streams to " + to)
	}
}

// namedConn is a pipe that says who is at the other end.
type namedConn struct {
	net.Conn
	from net.Addr
}

func (c namedConn) RemoteAddr() net.Addr { return c.from }

func (t *memTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *memTransport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *memTransport) Shutdown() error {
	t.net.lock.Lock()
	defer t.net.lock.Unlock()
	if t.net.nodes[t.addr.String()] == t {
		delete(t.net.nodes, t.addr.String())
	}
	return nil
}

func ipOf(i int) string { return "10.0.0." + strconv.Itoa(i) }
