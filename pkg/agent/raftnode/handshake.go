package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
)

// Raft's messages say neither for whom they are nor of which cluster. A server that
// lost its data and comes back under a new id at its old address would take those
// meant for the old one, acknowledge entries and give votes in its name, and so lose
// what a majority had acknowledged; servers of two clusters would overwrite each
// other's logs. So each connection begins with a greeting:
//
//	who dials    0xff, frame: whom it wants, and its own clusterid.Hello
//	who accepts  frame: its own Hello, or why it refuses
//	who dials    frame: empty, or why it refuses
//
// A frame is its length (2 bytes, big endian) and JSON. Who refuses, and who is
// refused, hangs up. A server without a cluster id, as those of earlier versions are,
// says only whom it wants: one byte of length, then the id; a server that has a
// cluster id refuses that. No wanted id means anybody: a server that raft's
// configuration has no more.
const (
	maxID            = 254 // the longest id that can be asked for
	handshakeMark    = 0xff
	maxHandshake     = 8 << 10
	handshakeTimeout = rpcTimeout // to hear and answer a greeting
	maxLogged        = 64         // how many lines are remembered, not to be said again
)

// handshakeFrame is what each frame holds.
type handshakeFrame struct {
	Want  string           `json:",omitempty"`
	Hello *clusterid.Hello `json:",omitempty"`

	Refused  string `json:",omitempty"` // why
	Outdated bool   `json:",omitempty"` // because of clusterid.ErrOutdated
}

func refusal(err error) handshakeFrame {
	if err == nil {
		return handshakeFrame{}
	}
	return handshakeFrame{Refused: err.Error(), Outdated: errors.Is(err, clusterid.ErrOutdated)}
}

func (s *stream) hello() *clusterid.Hello {
	h := clusterid.Hello{ID: s.cfg.ID, Address: s.cfg.Address}
	if s.cfg.Identity != nil {
		h = s.cfg.Identity.Hello(s.cfg.Address)
	}
	return &h
}

// handshake begins a connection that was dialled.
func (s *stream) handshake(c net.Conn, id string, timeout time.Duration) error {
	if s.cfg.Identity == nil || s.cfg.Identity.Cluster() == "" {
		return handshakeByID(c, id, timeout)
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := writeHandshake(c, []byte{handshakeMark}, handshakeFrame{Want: id, Hello: s.hello()}); err != nil {
		return err
	}
	answer, err := readHandshake(c)
	if err != nil {
		return fmt.Errorf("no answer to the greeting: %w", err)
	}
	if answer.Refused != "" {
		return s.refusedBy(answer, c)
	}
	refused := s.checkPeer(answer.Hello)
	if err := writeHandshake(c, nil, refusal(refused)); err != nil {
		return errors.Join(refused, err)
	}
	if refused != nil {
		s.logRefused(answer.Hello, c, refused)
		return refused
	}
	return c.SetDeadline(time.Time{})
}

// acceptHandshake hears the greeting of a connection that was accepted. One that is refused
// ends without an error: raft would log it ten times a second.
func (s *stream) acceptHandshake(c net.Conn) error {
	if err := c.SetWriteDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return err
	}
	if first[0] != handshakeMark {
		return s.acceptByID(c, int(first[0]))
	}
	if err := c.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	request, err := readHandshake(c)
	if err != nil {
		return err
	}
	if request.Want != "" && request.Want != s.cfg.ID {
		s.logWrongServer(request.Want, c)
		_ = writeHandshake(c, nil, handshakeFrame{ // who has gone need not know
			Refused: fmt.Sprintf("the server at %s has the id %s: the one that is looked for is not there any more", s.cfg.Address, s.cfg.ID)})
		return io.EOF
	}
	refused := s.checkPeer(request.Hello)
	if refused == nil && s.cfg.Identity != nil && request.Want == s.cfg.ID {
		refused = s.cfg.Identity.Join(request.Hello.Cluster) // before anything that it sends is stored
	}
	if refused != nil {
		s.logRefused(request.Hello, c, refused)
		_ = writeHandshake(c, nil, refusal(refused)) // who has gone need not know
		return io.EOF
	}
	if err := writeHandshake(c, nil, handshakeFrame{Hello: s.hello()}); err != nil {
		return err
	}
	answer, err := readHandshake(c)
	if err != nil {
		return err
	}
	if answer.Refused != "" {
		_ = s.refusedBy(answer, c)
		return io.EOF
	}
	return c.SetDeadline(time.Time{})
}

// acceptByID hears the greeting of a server without a cluster id.
func (s *stream) acceptByID(c net.Conn, size int) error {
	id := make([]byte, size)
	if _, err := io.ReadFull(c, id); err != nil {
		return err
	}
	if len(id) > 0 && string(id) != s.cfg.ID {
		s.logWrongServer(string(id), c)
		return io.EOF
	}
	if s.cfg.Identity != nil && s.cfg.Identity.Cluster() != "" {
		s.logOnce("nameless "+hostOf(c), "a server without a cluster id is refused: it is of an earlier version, or has no data; it is taken in when it runs this version and this cluster's leader knows it", "from", c.RemoteAddr())
		return io.EOF
	}
	return c.SetWriteDeadline(time.Time{})
}

// checkPeer says why nothing may be exchanged with a server.
func (s *stream) checkPeer(h *clusterid.Hello) error {
	switch {
	case h == nil:
		return errors.New("it does not say who it is")
	case s.cfg.CheckPeer != nil:
		if err := s.cfg.CheckPeer(*h); err != nil {
			return err
		}
	}
	if s.cfg.Identity == nil {
		return nil
	}
	return s.cfg.Identity.VerifyPeer(*h)
}

// refusedBy is the error of being refused. A server that was told that it is
// outdated stops, for good: it must not stand, vote or acknowledge.
func (s *stream) refusedBy(g handshakeFrame, c net.Conn) error {
	err := fmt.Errorf("the server at %s refuses this one: %s", c.RemoteAddr(), g.Refused)
	if g.Outdated && s.cfg.Identity != nil {
		why := fmt.Sprintf("the server at %s says so: %s", c.RemoteAddr(), g.Refused)
		s.fail(errors.Join(clusterid.Outdated(why), s.cfg.Identity.MarkOutdated(why)))
		return err
	}
	s.logOnce("refused by "+hostOf(c)+g.Refused, "another server refuses this one", "address", c.RemoteAddr(), "error", g.Refused)
	return err
}

func (s *stream) logRefused(h *clusterid.Hello, c net.Conn, why error) {
	id, at := "", ""
	if h != nil {
		id, at = h.ID, h.Address
	}
	s.logOnce("refuse "+id+hostOf(c)+why.Error(), "refused to talk raft with another server", "id", id, "address", at, "remote", c.RemoteAddr(), "error", why)
}

func (s *stream) logWrongServer(wanted string, c net.Conn) {
	s.logOnce("other "+wanted, "the cluster looks for another server at this address, and does not get its vote from this one: if that one's data directory was lost, the leader will replace it",
		"wanted", wanted, "this server", s.cfg.ID, "address", s.cfg.Address, "from", c.RemoteAddr())
}

// logOnce logs what was not logged under this key before.
func (s *stream) logOnce(key, text string, args ...any) {
	s.mu.Lock()
	_, known := s.logged[key]
	if !known {
		if len(s.logged) >= maxLogged {
			clear(s.logged)
		}
		s.logged[key] = struct{}{}
	}
	s.mu.Unlock()
	if !known {
		s.cfg.Logger.Error(text, args...)
	}
}

func hostOf(c net.Conn) string {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host
}

func writeHandshake(c net.Conn, head []byte, g handshakeFrame) error {
	body, err := json.Marshal(g)
	if err == nil && len(body) > maxHandshake {
		err = fmt.Errorf("a greeting of %d bytes is too long", len(body))
	}
	if err != nil {
		return err
	}
	_, err = c.Write(append(append(head, byte(len(body)>>8), byte(len(body))), body...))
	return err
}

func readHandshake(c net.Conn) (g handshakeFrame, err error) {
	size := make([]byte, 2)
	if _, err := io.ReadFull(c, size); err != nil {
		return g, err
	}
	n := int(size[0])<<8 | int(size[1])
	if n > maxHandshake {
		return g, fmt.Errorf("a greeting of %d bytes is too long", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		return g, err
	}
	return g, json.Unmarshal(body, &g)
}

// handshakeByID begins a connection that was dialled by a server without a cluster id.
func handshakeByID(c net.Conn, id string, timeout time.Duration) error {
	if len(id) > maxID {
		return fmt.Errorf("its id has %d bytes, more than %d", len(id), maxID)
	}
	if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write(append([]byte{byte(len(id))}, id...)); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}
