package gossip

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// What the gossip port takes from outside. Memberlist itself trusts the sizes
// that a message claims, and takes any number of streams; without a key anybody
// can send it one. See also packets.go and streams.go.
const (
	maxPacket      = 4 << 10 // bytes; our own have up to 1,400
	maxStreams     = 32      // open at once
	perSource      = 8       // of them, from one address
	maxWaiting     = 64      // that wait for room
	maxStreamBytes = 4 << 20 // read from one stream, either direction
	maxUserState   = 1 << 20 // serf's part of a state exchange
	maxMembers     = 8192    // members that are known, whatever their status

	streamHeader = 2 * time.Second        // for the first bytes of a stream
	streamTime   = 5 * time.Second        // for all of it
	streamGrace  = 250 * time.Millisecond // before a stream may have to give way to another
	waitTick     = 20 * time.Millisecond

	// Messages from addresses where no member lives: newcomers, members with
	// several addresses, and noise.
	strangersPerSecond = 500
	strangersBurst     = 1000
	// Names that are new to us, by packets without a key. What is left out comes
	// with the next state exchange, if it is true. The burst is what may well be
	// started at one instant.
	newcomersPerSecond = 20
	newcomersBurst     = 500
)

// guard stands between memberlist and the network. It promises that what gets
// through is small and shaped like a message, that few streams are open at
// once, that the oldest stream of the greediest source gives way, that nothing
// gets through before open, and that Shutdown ends every dial and every stream.
type guard struct {
	memberlist.Transport // what it stands before
	keyed                bool
	members              func() *members

	packets   chan *memberlist.Packet
	incoming  chan net.Conn
	strangers bucket
	newcomers bucket
	admitted  map[string]bool // newcomers that passed: the view may be a while behind; only for passPackets
	heard     atomic.Int64    // when the last packet came that passed, in Unix nanoseconds

	ctx     context.Context // of dials
	closing context.CancelFunc
	opened  chan struct{} // whoever is behind us can take what comes
	done    chan struct{} // the inner transport is shut
	work    sync.WaitGroup
	waiting atomic.Int32
	streams streamTable
}

func newGuard(inner memberlist.Transport, keyed bool, known func() *members) *guard {
	g := &guard{
		Transport: inner, keyed: keyed, members: known,
		packets: make(chan *memberlist.Packet), incoming: make(chan net.Conn),
		strangers: bucket{rate: strangersPerSecond, burst: strangersBurst},
		newcomers: bucket{rate: newcomersPerSecond, burst: newcomersBurst},
		opened:    make(chan struct{}),
		done:      make(chan struct{}),
	}
	g.streams.open = map[*stream]struct{}{}
	g.ctx, g.closing = context.WithCancel(context.Background())
	g.work.Go(g.passPackets)
	g.work.Go(g.passStreams)
	return g
}

func (g *guard) PacketCh() <-chan *memberlist.Packet { return g.packets }
func (g *guard) StreamCh() <-chan net.Conn           { return g.incoming }

// DialTimeout is memberlist's; the end of the guard ends it too.
func (g *guard) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := g.dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn, table: &g.streams, left: maxStreamBytes, outgoing: true}
	if !g.streams.add(s, time.Now()) {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return s, nil
}

func (g *guard) dial(addr string, timeout time.Duration) (net.Conn, error) {
	if _, sockets := g.Transport.(*memberlist.NetTransport); !sockets {
		return g.Transport.DialTimeout(addr, timeout)
	}
	dialer := net.Dialer{Timeout: timeout}
	return dialer.DialContext(g.ctx, "tcp", addr)
}

// Shutdown closes the ports and whatever is open. What still comes is dropped,
// since the inner transport waits until somebody takes it.
func (g *guard) Shutdown() error {
	g.closing()
	g.streams.closeAll()
	err := g.Transport.Shutdown()
	if g.finish() {
		g.work.Wait()
	}
	return err
}

// finish is for the first Shutdown only.
func (g *guard) finish() bool {
	g.streams.mu.Lock()
	defer g.streams.mu.Unlock()
	select {
	case <-g.done:
		return false
	default:
		close(g.done)
		return true
	}
}

// open lets in what comes. It is called once serf stands: serf 0.11 takes packets
// before it has all of its parts, and panics when an event is among them.
func (g *guard) open() { close(g.opened) }

// awaitOpen keeps what comes where it is, in the kernel's queues.
func (g *guard) awaitOpen() {
	select {
	case <-g.opened:
	case <-g.ctx.Done():
	}
}

func (g *guard) passPackets() {
	g.awaitOpen()
	for {
		select {
		case <-g.done:
			return
		case p := <-g.Transport.PacketCh():
			buf := g.admit(p.Buf, addrOfSource(p.From), p.Timestamp)
			if buf == nil {
				continue
			}
			g.heard.Store(p.Timestamp.UnixNano())
			select {
			case g.packets <- &memberlist.Packet{Buf: buf, From: p.From, Timestamp: p.Timestamp}:
			case <-g.ctx.Done():
			}
		}
	}
}

// addrOfSource is where something came from; the zero value if that is no IP
// address.
func addrOfSource(from net.Addr) netip.Addr {
	if from == nil {
		return netip.Addr{}
	}
	if udp, ok := from.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr().Unmap()
	}
	ap, _ := netip.ParseAddrPort(from.String())
	return ap.Addr().Unmap()
}

// bucket limits a rate. One goroutine uses it.
type bucket struct {
	rate, burst float64
	level       float64 // what has been used
	last        time.Time
}

// take uses n up, or says that it is too much.
func (b *bucket) take(n int, now time.Time) bool {
	if past := now.Sub(b.last).Seconds(); past > 0 {
		b.level = max(0, b.level-past*b.rate)
		b.last = now
	}
	if b.level+float64(n) > b.burst {
		return false
	}
	b.level += float64(n)
	return true
}
