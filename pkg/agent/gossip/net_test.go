package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// memNet carries packets and streams between members in memory. Like UDP, and
// unlike memberlist's own mock, it drops what nobody reads in time.
type memNet struct {
	lock  sync.Mutex
	nodes map[string]*memTransport
	down  map[string]bool
	loss  float64 // of packets

	mute    atomic.Bool // what members say of each other is left out
	carried traffic
	suspect map[suspicion]bool // what was gossiped, each once
}

// traffic counts what the network has carried or, where nobody read, dropped.
type traffic struct {
	packets, packetBytes, streams, streamBytes, dropped atomic.Int64
}

// suspicion is memberlist's message that somebody does not answer.
type suspicion struct {
	Incarnation uint32
	Node        string
}

func newMemNet() *memNet {
	return &memNet{nodes: map[string]*memTransport{}, down: map[string]bool{}, suspect: map[suspicion]bool{}}
}

// setDown cuts an address off, or connects it again.
func (n *memNet) setDown(addr string, down bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.down[addr] = down
}

// setLoss says which share of the packets is lost from now on.
func (n *memNet) setLoss(share float64) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.loss = share
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

// count takes a packet to the books. The tests that count use no key.
func (n *memNet) count(b []byte) {
	n.carried.packets.Add(1)
	n.carried.packetBytes.Add(int64(len(b)))
	if b[0] == msgCRC {
		b = b[crcHeader:]
	}
	for _, part := range split(b) {
		var s suspicion
		if part[0] != msgSuspect || codec.NewDecoderBytes(part[1:], new(codec.MsgpackHandle)).Decode(&s) != nil {
			continue
		}
		n.lock.Lock()
		n.suspect[s] = true
		n.lock.Unlock()
	}
}

func withoutGossip(b []byte) []byte {
	if b[0] == msgCRC {
		b = b[crcHeader:]
	}
	return join(slices.DeleteFunc(split(b), func(part []byte) bool { return part[0] == msgAlive || part[0] == msgUser }))
}

func (n *memNet) suspicions() int {
	n.lock.Lock()
	defer n.lock.Unlock()
	return len(n.suspect)
}

type memTransport struct {
	net     *memNet
	name    string
	addr    *net.UDPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (n *memNet) attach(ip string) *memTransport {
	t := &memTransport{
		net: n, addr: &net.UDPAddr{IP: net.ParseIP(ip).To4(), Port: 8301},
		packets: make(chan *memberlist.Packet, 512), streams: make(chan net.Conn, 64),
	}
	t.name = t.addr.String()
	n.lock.Lock()
	defer n.lock.Unlock()
	n.nodes[t.name] = t
	return t
}

func (t *memTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.IP, t.addr.Port, nil
}

func (t *memTransport) WriteTo(b []byte, to string) (time.Time, error) {
	now := time.Now()
	t.net.count(b)
	if t.net.mute.Load() {
		b = withoutGossip(b)
	}
	if dst, ok := t.net.route(t.name, to, true); ok && len(b) > 0 {
		select {
		case dst.packets <- &memberlist.Packet{Buf: append([]byte{}, b...), From: t.addr, Timestamp: now}:
		default:
			t.net.carried.dropped.Add(1)
		}
	}
	return now, nil
}

func (t *memTransport) DialTimeout(to string, _ time.Duration) (net.Conn, error) {
	dst, ok := t.net.route(t.name, to, false)
	if !ok {
		return nil, errors.New("refused by the test's network: " + to)
	}
	near, far := net.Pipe()
	select {
	case dst.streams <- namedConn{countedConn{far, t.net}, t.addr}:
		t.net.carried.streams.Add(1)
		return countedConn{near, t.net}, nil
	default:
		return nil, errors.New("too many streams to " + to)
	}
}

type countedConn struct {
	net.Conn
	net *memNet
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.net.carried.streamBytes.Add(int64(n))
	return n, err
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
	if t.net.nodes[t.name] == t {
		delete(t.net.nodes, t.name)
	}
	return nil
}

func ipOf(i int) string { return fmt.Sprintf("10.0.%d.%d", i>>8, i&255) }
