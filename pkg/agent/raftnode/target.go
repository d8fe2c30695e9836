package raftnode

import (
	"errors"
	"strings"

	"github.com/hashicorp/raft"
)

// addresses is raft's ServerAddressProvider: a server is dialled at the address that
// gossip knows, even if it has moved, and by its id.
type addresses struct {
	self Config
	raft func() *raft.Raft
}

// ServerAddr gives "id@ip:port" for another server, for stream.Dial; this server's own
// address as it is, because raft puts it into messages.
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
