package gossip

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// headerBytes is as long as the beginning of a stream may be before it says what
// it carries.
const headerBytes = 128

var errStreamTooLong = errors.New("gossip: the stream is longer than its limit")

// stream is one connection of memberlist's.
type stream struct {
	net.Conn
	table    *streamTable
	from     netip.Addr
	openedAt time.Time
	outgoing bool // ours: counts against no limit of number

	head []byte // read ahead, not yet given out
	left int64
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.left <= 0 {
		return 0, errStreamTooLong
	}
	n, err := s.Conn.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, err
}

// SetDeadline ends no later than the stream's time; memberlist prolongs its own
// at every step.
func (s *stream) SetDeadline(t time.Time) error {
	if last := s.openedAt.Add(streamTimeout); !s.outgoing && (t.IsZero() || t.After(last)) {
		t = last
	}
	return s.Conn.SetDeadline(t)
}

func (s *stream) Close() error {
	s.table.remove(s)
	return s.Conn.Close()
}

// streamTable knows every open stream.
type streamTable struct {
	mu     sync.Mutex
	open   map[*stream]struct{}
	closed bool
}

// add adds a stream. When the table is full, it closes the oldest stream of the same
// source, or of the source with the most streams: a good stream ends after some
// milliseconds. It closes none that is younger than minStreamAge.
func (t *streamTable) add(s *stream, now time.Time) bool {
	s.openedAt = now
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if !s.outgoing {
		if victim, full := t.pick(s.from); full {
			if victim == nil || now.Sub(victim.openedAt) < minStreamAge {
				return false
			}
			delete(t.open, victim)
			_ = victim.Conn.Close()
		}
	}
	t.open[s] = struct{}{}
	return true
}

// pick says whether the table is full for a source, and which stream to close first.
func (t *streamTable) pick(from netip.Addr) (victim *stream, full bool) {
	bySource := map[netip.Addr]int{}
	total := 0
	for s := range t.open {
		if !s.outgoing {
			bySource[s.from]++
			total++
		}
	}
	busiest := from
	if bySource[from] < maxStreamsPerSource {
		if total < maxStreams {
			return nil, false
		}
		for source, n := range bySource {
			if n > bySource[busiest] {
				busiest = source
			}
		}
	}
	for s := range t.open {
		if !s.outgoing && s.from == busiest && (victim == nil || s.openedAt.Before(victim.openedAt)) {
			victim = s
		}
	}
	return victim, true
}

func (t *streamTable) remove(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, s)
}

func (t *streamTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for s := range t.open {
		delete(t.open, s)
		_ = s.Conn.Close()
	}
}

func (f *filterTransport) forwardStreams() {
	f.awaitOpen()
	for {
		select {
		case <-f.done:
			return
		case conn := <-f.Transport.StreamCh():
			s := &stream{Conn: conn, table: &f.streams, from: addrOfSource(conn.RemoteAddr()), left: maxStreamBytes}
			if f.streams.add(s, time.Now()) {
				f.work.Go(func() { f.forwardStream(s) })
			} else if f.waiting.Add(1) <= maxWaiting {
				f.work.Go(func() { f.awaitSlot(s) })
			} else {
				f.waiting.Add(-1)
				_ = conn.Close()
			}
		}
	}
}

// awaitSlot waits for a free slot: many good streams may come at once, such as those
// of agents that are started together on one machine.
func (f *filterTransport) awaitSlot(s *stream) {
	slot := false
	for tries := headerTimeout / slotPoll; tries > 0 && !slot && f.ctx.Err() == nil; tries-- {
		time.Sleep(slotPoll)
		slot = f.streams.add(s, time.Now())
	}
	f.waiting.Add(-1)
	if !slot {
		_ = s.Conn.Close()
		return
	}
	f.forwardStream(s)
}

// forwardStream hands a stream on once its beginning has been seen to be good.
func (f *filterTransport) forwardStream(s *stream) {
	_ = s.SetDeadline(s.openedAt.Add(headerTimeout))
	if !f.readHead(s) {
		_ = s.Close()
		return
	}
	_ = s.SetDeadline(time.Time{}) // memberlist sets its own
	select {
	case f.incoming <- s:
	case <-f.ctx.Done():
		_ = s.Close()
	}
}

func (f *filterTransport) readHead(s *stream) bool {
	buf := make([]byte, 0, headerBytes)
	for {
		n, err := s.Conn.Read(buf[len(buf):headerBytes])
		buf = buf[:len(buf)+n]
		if n > 0 {
			if good, enough := checkHead(buf, f.encrypted); enough {
				s.head, s.left = buf, s.left-int64(len(buf))
				return good
			}
		}
		if err != nil || len(buf) == headerBytes {
			return false
		}
	}
}

// checkHead looks at the beginning of a stream: whether it is enough to say, and
// what it says.
func checkHead(head []byte, encrypted bool) (good, enough bool) {
	switch {
	case encrypted && head[0] != msgEncrypt, !encrypted && head[0] == msgEncrypt:
		return true, true // memberlist reads no further, and tells the other end why
	case encrypted:
		if len(head) < 5 {
			return false, false
		}
		return binary.BigEndian.Uint32(head[1:]) <= maxStreamBytes, true
	case head[0] == msgPing:
		return true, true
	case head[0] != msgPushPull:
		return false, true // serf sends nothing else, and compressed ones grow
	}
	// Memberlist allocates as much as this claims before it has arrived.
	var exchange struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}
	if codec.NewDecoderBytes(head[1:], new(codec.MsgpackHandle)).Decode(&exchange) != nil {
		return false, false // cut off, or bad: the bytes and the time are limited
	}
	return exchange.Nodes >= 0 && exchange.Nodes <= maxMembers &&
		exchange.UserStateLen >= 0 && exchange.UserStateLen <= maxUserState, true
}
