package gossip

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/pkg/agent/conntable"
)

// Limits of what the gossip port accepts. Memberlist itself trusts the sizes that a
// message claims, and accepts any number of streams; without a key anybody can send
// it one. See also packets.go and streams.go.
const (
	maxPacket      = 4 << 10 // bytes; our own have up to 1,400
	maxWaiting     = 64      // that wait for a slot
	maxStreamBytes = 4 << 20 // read from one stream, either direction
	maxUserState   = 1 << 20 // serf's part of a state exchange

	headerTimeout = 2 * time.Second // for the first bytes of a stream
	streamTimeout = 5 * time.Second // for all of it
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

// MaxMembers is how many members an agent knows at most, whatever their status, and how
// many a state exchange may list.
const MaxMembers = 8192

// streamLimits bound the open streams. A good stream ends after some milliseconds, so
// an older one gives way.
var streamLimits = conntable.Limits{PerAddress: 8, Total: 32, GiveWay: 250 * time.Millisecond}

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
	streams *conntable.Table
	shut    sync.Once
}

func newFilterTransport(inner memberlist.Transport, encrypted bool, known func() *members) *filterTransport {
	f := &filterTransport{
		Transport: inner, encrypted: encrypted, members: known,
		packets: make(chan *memberlist.Packet), incoming: make(chan net.Conn),
		unknown:  tokenBucket{rate: unknownPerSecond, burst: unknownBurst},
		newNames: tokenBucket{rate: newNamesPerSecond, burst: newNamesBurst},
		opened:   make(chan struct{}),
		done:     make(chan struct{}),
		streams:  conntable.New(streamLimits),
	}
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
	own, err := f.streams.AddOwn(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &stream{Conn: own, left: maxStreamBytes}, nil
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
	f.streams.Close()
	err := f.Transport.Shutdown()
	f.shut.Do(func() {
		close(f.done)
		f.work.Wait()
	})
	return err
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
			buf := f.filterPacket(p.Buf, conntable.AddressOf(p.From), p.Timestamp)
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

// tokenBucket limits a rate. One goroutine uses it.
type tokenBucket struct {
	rate, burst float64
	used        float64 // tokens
	last        time.Time
}

// allow uses n up, or says that it is too much.
func (b *tokenBucket) allow(n int, now time.Time) bool {
	if elapsed := now.Sub(b.last).Seconds(); elapsed > 0 {
		b.used = max(0, b.used-elapsed*b.rate)
		b.last = now
	}
	if b.used+float64(n) > b.burst {
		return false
	}
	b.used += float64(n)
	return true
}
