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

// Raft's messages name neither the server that they are meant for nor its cluster. A
// server that lost its data and comes back under a new id at its old address would
// accept messages for the old one, acknowledge entries and give votes in its name; what a
// majority had acknowledged would be lost. Servers of two clusters would overwrite each
// other's logs. So each connection begins with a handshake:
//
//	who dials    0xff, frame: the id that it wants, and its own clusterid.Hello
//	who accepts  frame: its own Hello, or why it refuses
//	who dials    frame: empty, or why it refuses
//
// A frame is its length (2 bytes, big endian) and JSON. A refusal ends the connection. A
// server without a cluster id, as those of earlier versions are, sends only the wanted
// id: one byte of length, then the id; a server that has a cluster id refuses that. An
// empty wanted id accepts any server: it is one that raft's configuration does not have
// any more.
const (
	maxID            = 254 // the longest id that can be wanted
	handshakeMark    = 0xff
	maxHandshake     = 8 << 10
	handshakeTimeout = rpcTimeout // of the whole handshake at the accepting end
)

// handshakeFrame is the content of each frame.
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
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if s.cfg.Identity == nil || s.cfg.Identity.Cluster() == "" {
		return sendWantedID(c, id)
	}
	if err := writeFrame(c, []byte{handshakeMark}, handshakeFrame{Want: id, Hello: s.hello()}); err != nil {
		return err
	}
	answer, err := readFrame(c)
	if err != nil {
		return fmt.Errorf("no answer to the handshake: %w", err)
	}
	if answer.Refused != "" {
		return s.refusedBy(answer, c)
	}
	refused := s.checkPeer(answer.Hello)
	if refused == nil && id != "" && answer.Hello.ID != id {
		refused = fmt.Errorf("it is server %s, and not the wanted %s", answer.Hello.ID, id)
	}
	if err := writeFrame(c, nil, refusal(refused)); err != nil {
		return errors.Join(refused, err)
	}
	if refused != nil {
		s.logRefused(answer.Hello, c, refused)
		return refused
	}
	return c.SetDeadline(time.Time{})
}

// acceptHandshake does the handshake of a connection that was accepted. A refused one
// ends with io.EOF: raft would log another error ten times a second.
func (s *stream) acceptHandshake(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return err
	}
	if first[0] != handshakeMark {
		return s.acceptByID(c, int(first[0]))
	}
	request, err := readFrame(c)
	if err != nil {
		return err
	}
	if request.Want != "" && request.Want != s.cfg.ID {
		s.logWrongServer(request.Want, c)
		_ = writeFrame(c, nil, handshakeFrame{ // if the other end is gone, it need not know
			Refused: fmt.Sprintf("the server at %s has the id %s: the one that is looked for is not there any more", s.cfg.Address, s.cfg.ID)})
		return io.EOF
	}
	refused := s.checkPeer(request.Hello)
	if refused == nil && s.cfg.Identity != nil && request.Want == s.cfg.ID {
		refused = s.cfg.Identity.Join(request.Hello.Cluster) // before anything that it sends is stored
	}
	if refused != nil {
		s.logRefused(request.Hello, c, refused)
		_ = writeFrame(c, nil, refusal(refused)) // if the other end is gone, it need not know
		return io.EOF
	}
	if err := writeFrame(c, nil, handshakeFrame{Hello: s.hello()}); err != nil {
		return err
	}
	answer, err := readFrame(c)
	if err != nil {
		return err
	}
	if answer.Refused != "" {
		_ = s.refusedBy(answer, c)
		return io.EOF
	}
	return c.SetDeadline(time.Time{})
}

// acceptByID does the handshake with a server without a cluster id.
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
		if s.logged.First("no cluster id " + hostOf(c)) {
			s.cfg.Logger.Error("a server without a cluster id is refused: it is of an earlier version, or has no data; it is accepted when it runs this version and this cluster's leader knows it", "from", c.RemoteAddr())
		}
		return io.EOF
	}
	return c.SetDeadline(time.Time{})
}

// checkPeer says why nothing may be exchanged with a server.
func (s *stream) checkPeer(h *clusterid.Hello) error {
	if h == nil {
		return errors.New("it does not say who it is")
	}
	if s.cfg.CheckPeer != nil {
		if err := s.cfg.CheckPeer(*h); err != nil {
			return err
		}
	}
	if s.cfg.Identity == nil {
		return nil
	}
	return s.cfg.Identity.VerifyPeer(*h)
}

// refusedBy is the error of being refused. A server that is told that it is outdated
// stops for good: it must not start an election, vote or acknowledge.
func (s *stream) refusedBy(f handshakeFrame, c net.Conn) error {
	err := fmt.Errorf("the server at %s refuses this one: %s", c.RemoteAddr(), f.Refused)
	if f.Outdated && s.cfg.Identity != nil {
		why := fmt.Sprintf("the server at %s says so: %s", c.RemoteAddr(), f.Refused)
		s.fail(errors.Join(clusterid.Outdated(why), s.cfg.Identity.MarkOutdated(why)))
		return err
	}
	if s.logged.First("refused by " + hostOf(c) + f.Refused) {
		s.cfg.Logger.Error("another server refuses this one", "address", c.RemoteAddr(), "error", f.Refused)
	}
	return err
}

func (s *stream) logRefused(h *clusterid.Hello, c net.Conn, why error) {
	id, at := "", ""
	if h != nil {
		id, at = h.ID, h.Address
	}
	if s.logged.First("refused " + id + hostOf(c) + why.Error()) {
		s.cfg.Logger.Error("refused to talk raft with another server", "id", id, "address", at, "remote", c.RemoteAddr(), "error", why)
	}
}

func (s *stream) logWrongServer(wanted string, c net.Conn) {
	if s.logged.First("wrong server " + wanted) {
		s.cfg.Logger.Error("the cluster looks for another server at this address, and does not get its vote from this one: if that one's data directory was lost, the leader will replace it",
			"wanted", wanted, "this server", s.cfg.ID, "address", s.cfg.Address, "from", c.RemoteAddr())
	}
}

func hostOf(c net.Conn) string {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host
}

func writeFrame(c net.Conn, head []byte, f handshakeFrame) error {
	body, err := json.Marshal(f)
	if err == nil && len(body) > maxHandshake {
		err = fmt.Errorf("a handshake of %d bytes is too long", len(body))
	}
	if err != nil {
		return err
	}
	_, err = c.Write(append(append(head, byte(len(body)>>8), byte(len(body))), body...))
	return err
}

func readFrame(c net.Conn) (f handshakeFrame, err error) {
	size := make([]byte, 2)
	if _, err := io.ReadFull(c, size); err != nil {
		return f, err
	}
	n := int(size[0])<<8 | int(size[1])
	if n > maxHandshake {
		return f, fmt.Errorf("a handshake of %d bytes is too long", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		return f, err
	}
	return f, json.Unmarshal(body, &f)
}

// sendWantedID begins a connection that was dialled by a server without a cluster id.
func sendWantedID(c net.Conn, id string) error {
	if len(id) > maxID {
		return fmt.Errorf("its id has %d bytes, more than %d", len(id), maxID)
	}
	if _, err := c.Write(append([]byte{byte(len(id))}, id...)); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}
