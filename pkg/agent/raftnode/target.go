package raftnode

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's messages do not say for whom they are. A server that lost its data and
// comes back under a new id at its old address would take those meant for the
// old one, acknowledge entries and give votes in its name, and so lose what a
// majority had acknowledged. So each connection begins with the id of the server
// that is wanted (one byte of length, then the id), and who is somebody else
// hangs up. No id means anybody: a server that raft's configuration has no more.

// maxID is the longest id that can be asked for.
const maxID = 255

// addresses is raft's ServerAddressProvider: a server that moved is dialled
// where gossip sees it, and by id.
type addresses struct {
	self Config
	raft func() *raft.Raft
}

// ServerAddr gives "id@ip:port" for others, for stream.Dial. Our own address
// goes into messages as it is.
func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if string(id) == a.self.ID {
		return raft.ServerAddress(a.self.Address), nil
	}
	if a.self.AddressOf != nil {
		if addr, ok := a.self.AddressOf(string(id)); ok {
			return target(id, raft.ServerAddress(addr)), nil
		}
	}
	if r := a.raft(); r != nil {
		for _, server := range r.GetConfiguration().Configuration().Servers {
			if server.ID == id {
				return target(id, server.Address), nil
			}
		}
	}
	return "", errors.New("neither gossip nor raft's configuration knows it")
}

func target(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + addr
}

func splitTarget(t raft.ServerAddress) (id, addr string) {
	if i := strings.LastIndexByte(string(t), '@'); i >= 0 {
		return string(t[:i]), string(t[i+1:])
	}
	return "", string(t)
}

// sayWhom begins a connection that was dialled.
func sayWhom(c net.Conn, id string, timeout time.Duration) error {
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

// expectSelf reads whom the other end wants. If that is somebody else it says so
// in the log, once for each, and ends the connection without an error: raft
// would repeat it ten times a second.
func (s *stream) expectSelf(c net.Conn) error {
	size := make([]byte, 1)
	if _, err := io.ReadFull(c, size); err != nil {
		return err
	}
	id := make([]byte, size[0])
	if _, err := io.ReadFull(c, id); err != nil {
		return err
	}
	if len(id) == 0 || string(id) == s.cfg.ID {
		return nil
	}
	s.mu.Lock()
	known := s.sought == string(id)
	s.sought = string(id)
	s.mu.Unlock()
	if !known {
		s.cfg.Logger.Warn("the cluster looks for another server at this address, and does not get its vote from this one: if that one's data directory was lost, the leader will replace it",
			"wanted", string(id), "this server", s.cfg.ID, "address", s.cfg.Address, "from", c.RemoteAddr())
	}
	return io.EOF
}
