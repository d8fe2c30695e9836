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

// Limits of what the gossip port accepts. Memberlist itself trusts the sizes that a
// message claims, and accepts any number of streams; without a key anybody can send
// it one. See also packets.go and streams.go.
const (
	maxPacket           = 4 << 10 // bytes; our own have up to 1,400
	maxStreams          = 32      // open at once
	maxStreamsPerSource = 8       // of them, from one address
	maxWaiting          = 64      // that wait for a slot
	maxStreamBytes      = 4 << 20 // read from one stream, either direction
	maxUserState        = 1 << 20 // serf's part of a state exchange
	maxMembers          = 8192    // members that are known, whatever their status

	headerTimeout = 2 * time.Second        // for the first bytes of a stream
	streamTimeout = 5 * time.Second        // for all of it
	minStreamAge  = 250 * time.Millisecond // a stream that is younger is not closed for another
	slotPoll      = 20 * time.Millisecond

	// Messages from addresses where no member lives: newcomers, members with
	// several addresses, and noise.
	unknownPerSecond = 500
	unknownBurst     = 1000
	// Names that are new to us, by packets without a key. What is left out comes
	// with the next state exchange, if it is true. The burst is what may well be
	// started at one instant.
	newNamesPerSecond = 20
	newNamesBurst     = 500
)

// filterTransport stands between memberlist and the network. It promises that what
// passes is small and has the form of a message, that few streams are open at once,
// that the oldest stream of the busiest source is closed for a new one, that nothing
// passes before open, and that Shutdown ends every dial and every stream.
type filterTransport struct {
	memberlist.Transport // the sockets
	encrypted            bool
	members              func() *members

	packets     chan *memberlist.Packet
	incoming    chan net.Conn
	unknown     tokenBucket
	newNames    tokenBucket
	passedNames map[string]bool // newcomers that passed: the view may be a while behind; only for forwardPackets
	lastPacket  atomic.Int64    // when the last packet came that passed, in Unix nanoseconds

	ctx     context.Context // of dials
	closing context.CancelFunc
	opened  chan struct{} // memberlist and serf can take what comes
	done    chan struct{} // the inner transport is shut
	work    sync.WaitGroup
	waiting atomic.Int32
	streams streamTable
}

func newFilterTransport(inner memberlist.Transport, encrypted bool, known func() *members) *filterTransport {
	f := &filterTransport{
		Transport: inner, encrypted: encrypted, members: known,
		packets: make(chan *memberlist.Packet), incoming: make(chan net.Conn),
		unknown:  tokenBucket{rate: unknownPerSecond, burst: unknownBurst},
		newNames: tokenBucket{rate: newNamesPerSecond, burst: newNamesBurst},
		opened:   make(chan struct{}),
		done:     make(chan struct{}),
	}
	f.streams.open = map[*stream]struct{}{}
	f.ctx, f.closing = context.WithCancel(context.Background())
	f.work.Go(f.forwardPackets)
	f.work.Go(f.forwardStreams)
	return f
}

func (f *filterTransport) PacketCh() <-chan *memberlist.Packet { return f.packets }
func (f *filterTransport) StreamCh() <-chan net.Conn           { return f.incoming }

// DialTimeout is memberlist's; Shutdown ends it too.
func (f *filterTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := f.dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn, table: &f.streams, left: maxStreamBytes, outgoing: true}
	if !f.streams.add(s, time.Now()) {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return s, nil
}

func (f *filterTransport) dial(addr string, timeout time.Duration) (net.Conn, error) {
	if _, sockets := f.Transport.(*memberlist.NetTransport); !sockets {
		return f.Transport.DialTimeout(addr, timeout)
	}
	dialer := net.Dialer{Timeout: timeout}
	return dialer.DialContext(f.ctx, "tcp", addr)
}

// Shutdown closes the ports and whatever is open. What still comes is dropped,
// since the inner transport waits until somebody takes it.
func (f *filterTransport) Shutdown() error {
	f.closing()
	f.streams.closeAll()
	err := f.Transport.Shutdown()
	if f.finish() {
		f.work.Wait()
	}
	return err
}

// finish is for the first Shutdown only.
func (f *filterTransport) finish() bool {
	f.streams.mu.Lock()
	defer f.streams.mu.Unlock()
	select {
	case <-f.done:
		return false
	default:
		close(f.done)
		return true
	}
}

// open lets everything pass. It is called once serf runs: serf 0.11 takes packets
// before it has all of its parts, and panics when an event is among them.
func (f *filterTransport) open() { close(f.opened) }

// awaitOpen waits for open; meanwhile what comes stays in the kernel's queues.
func (f *filterTransport) awaitOpen() {
	select {
	case <-f.opened:
	case <-f.ctx.Done():
	}
}

func (f *filterTransport) forwardPackets() {
	f.awaitOpen()
	for {
		select {
		case <-f.done:
			return
		case p := <-f.Transport.PacketCh():
			buf := f.filterPacket(p.Buf, addrOfSource(p.From), p.Timestamp)
			if buf == nil {
				continue
			}
			f.lastPacket.Store(p.Timestamp.UnixNano())
			select {
			case f.packets <- &memberlist.Packet{Buf: buf, From: p.From, Timestamp: p.Timestamp}:
			case <-f.ctx.Done():
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

// tokenBucket limits a rate. One goroutine uses it.
type tokenBucket struct {
	rate, burst float64
	level       float64 // what has been used
	last        time.Time
}

// take uses n up, or says that it is too much.
func (b *tokenBucket) allow(n int, now time.Time) bool {
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
