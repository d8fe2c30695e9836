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
	born     time.Time
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
	if last := s.born.Add(streamTime); !s.outgoing && (t.IsZero() || t.After(last)) {
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

// add takes a stream in. Where there is no room, the oldest of the same source
// gives way, or the oldest of the source with the most; a stream takes
// milliseconds, so one that is old is going nowhere. None that is young does.
func (t *streamTable) add(s *stream, now time.Time) bool {
	s.born = now
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if !s.outgoing {
		if victim, full := t.pick(s.from); full {
			if victim == nil || now.Sub(victim.born) < streamGrace {
				return false
			}
			delete(t.open, victim)
			_ = victim.Conn.Close()
		}
	}
	t.open[s] = struct{}{}
	return true
}

// pick says whether there is no room for one more stream from a source, and who
// is first to go.
func (t *streamTable) pick(from netip.Addr) (victim *stream, full bool) {
	bySource := map[netip.Addr]int{}
	total := 0
	for s := range t.open {
		if !s.outgoing {
			bySource[s.from]++
			total++
		}
	}
	greedy := from
	if bySource[from] < perSource {
		if total < maxStreams {
			return nil, false
		}
		for source, n := range bySource {
			if n > bySource[greedy] {
				greedy = source
			}
		}
	}
	for s := range t.open {
		if !s.outgoing && s.from == greedy && (victim == nil || s.born.Before(victim.born)) {
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

func (g *guard) passStreams() {
	g.awaitOpen()
	for {
		select {
		case <-g.done:
			return
		case conn := <-g.Transport.StreamCh():
			s := &stream{Conn: conn, table: &g.streams, from: addrOfSource(conn.RemoteAddr()), left: maxStreamBytes}
			if g.streams.add(s, time.Now()) {
				g.work.Go(func() { g.passStream(s) })
			} else if g.waiting.Add(1) <= maxWaiting {
				g.work.Go(func() { g.awaitRoom(s) })
			} else {
				g.waiting.Add(-1)
				_ = conn.Close()
			}
		}
	}
}

// awaitRoom is for many good ones at once, such as agents that are started
// together on one machine.
func (g *guard) awaitRoom(s *stream) {
	room := false
	for tries := streamHeader / waitTick; tries > 0 && !room && g.ctx.Err() == nil; tries-- {
		time.Sleep(waitTick)
		room = g.streams.add(s, time.Now())
	}
	g.waiting.Add(-1)
	if !room {
		_ = s.Conn.Close()
		return
	}
	g.passStream(s)
}

// passStream hands a stream on once its beginning has been seen to be good.
func (g *guard) passStream(s *stream) {
	_ = s.SetDeadline(s.born.Add(streamHeader))
	if !g.readHead(s) {
		_ = s.Close()
		return
	}
	_ = s.SetDeadline(time.Time{}) // memberlist sets its own
	select {
	case g.incoming <- s:
	case <-g.ctx.Done():
		_ = s.Close()
	}
}

func (g *guard) readHead(s *stream) bool {
	buf := make([]byte, 0, headerBytes)
	for {
		n, err := s.Conn.Read(buf[len(buf):headerBytes])
		buf = buf[:len(buf)+n]
		if n > 0 {
			if good, enough := judgeHead(buf, g.keyed); enough {
				s.head, s.left = buf, s.left-int64(len(buf))
				return good
			}
		}
		if err != nil || len(buf) == headerBytes {
			return false
		}
	}
}

// judgeHead looks at the beginning of a stream: whether it is enough to say, and
// what it says.
func judgeHead(head []byte, keyed bool) (good, enough bool) {
	switch {
	case keyed && head[0] != msgEncrypt, !keyed && head[0] == msgEncrypt:
		return true, true // memberlist reads no further, and tells the other end why
	case keyed:
		if len(head) < 5 {
			return false, false
		}
		return binary.BigEndian.Uint32(head[1:]) <= maxStreamBytes, true
	case head[0] == msgPing:
		return true, true
	case head[0] != msgPushPull:
		return false, true // serf sends nothing else, and compressed ones grow
	}
	// Memberlist makes room for as much as this says, before it has come.
	var exchange struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}
	if codec.NewDecoderBytes(head[1:], new(codec.MsgpackHandle)).Decode(&exchange) != nil {
		return false, false // cut off, or never to be good: the room and the time are short
	}
	return exchange.Nodes >= 0 && exchange.Nodes <= maxMembers &&
		exchange.UserStateLen >= 0 && exchange.UserStateLen <= maxUserState, true
}
