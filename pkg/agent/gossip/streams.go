package gossip

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-dev/muster/pkg/agent/conntable"
	"github.com/muster-dev/muster/pkg/retry"
)

// headerBytes is as long as the beginning of a stream may be before it says what
// it carries.
const headerBytes = 128

var errStreamTooLong = errors.New("gossip: the stream is longer than its limit")

// stream is one connection of memberlist's. It may carry left more bytes to us.
type stream struct {
	*conntable.Conn
	end  time.Time // no deadline is later; zero is no end, for streams of our own
	head []byte    // read ahead, not yet given out
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
	if !s.end.IsZero() && (t.IsZero() || t.After(s.end)) {
		t = s.end
	}
	return s.Conn.SetDeadline(t)
}

func (f *filterTransport) forwardStreams() {
	f.awaitOpen()
	for {
		select {
		case <-f.done:
			return
		case conn := <-f.Transport.StreamCh():
			if in, err := f.streams.Add(conn); err == nil {
				f.work.Go(func() { f.forwardStream(in) })
			} else if f.waiting.Add(1) <= maxWaiting {
				f.work.Go(func() { f.awaitSlot(conn) })
			} else {
				f.waiting.Add(-1)
				_ = conn.Close()
			}
		}
	}
}

// awaitSlot waits for a free slot: many good streams may come at once, such as those
// of agents that are started together on one machine.
func (f *filterTransport) awaitSlot(conn net.Conn) {
	var in *conntable.Conn
	for tries := headerTimeout / slotPoll; tries > 0 && in == nil && retry.Sleep(f.ctx, slotPoll) == nil; tries-- {
		in, _ = f.streams.Add(conn)
	}
	f.waiting.Add(-1)
	if in == nil {
		_ = conn.Close()
		return
	}
	f.forwardStream(in)
}

// forwardStream hands a stream on once its beginning has been seen to be good.
func (f *filterTransport) forwardStream(in *conntable.Conn) {
	now := time.Now()
	s := &stream{Conn: in, end: now.Add(streamTimeout), left: maxStreamBytes}
	_ = s.SetDeadline(now.Add(headerTimeout))
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
	return exchange.Nodes >= 0 && exchange.Nodes <= MaxMembers &&
		exchange.UserStateLen >= 0 && exchange.UserStateLen <= maxUserState, true
}
