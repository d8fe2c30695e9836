package server

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// StatusLeader is the leader's address, or "" while there is none or this server
// has not applied the leader's node, its consul service and its serfHealth yet.
// It never waits.
func (s *Server) StatusLeader() string {
	l := s.leader()
	if l.ID == "" || !inCatalog(s.views.Snapshot(), s.nameOf(l.ID)) {
		return ""
	}
	return l.Addr
}

// inCatalog says whether the catalog has a server's node, consul service and serfHealth.
func inCatalog(snap *state.Snapshot, name string) bool {
	if name == "" {
		return false
	}
	c := lookUp(snap, name)
	return c.node != nil && c.service != nil && c.health != nil
}

// nameOf is the node name of a server id, "" if gossip does not know it.
func (s *Server) nameOf(id string) string {
	if id == s.cfg.NodeID {
		return s.cfg.NodeName
	}
	srv, _ := s.cfg.Pool.ServerByID(id)
	return srv.Name
}

// KnownLeader says whether this server knows a leader.
func (s *Server) KnownLeader() bool {
	id, _ := s.node.Leader()
	return id != ""
}

// LastContact is how long ago this server heard from the leader: 0 if it leads,
// at least its own running time if it never did.
func (s *Server) LastContact() time.Duration {
	last := s.node.LastContact()
	if last < 0 {
		return time.Since(s.began)
	}
	return last
}

// Peers are the addresses of all servers in raft's configuration.
func (s *Server) Peers() []string {
	servers, _, err := s.node.Configuration()
	if err != nil {
		return []string{}
	}
	peers := make([]string, 0, len(servers))
	for _, srv := range servers {
		peers = append(peers, s.addressIn(srv))
	}
	slices.Sort(peers)
	return peers
}

// addressIn is the present address of a configured server.
func (s *Server) addressIn(srv raft.Server) string {
	if now, ok := s.addressOf(string(srv.ID)); ok {
		return now
	}
	return string(srv.Address)
}

// RaftConfiguration is the answer of /v1/operator/raft/configuration.
func (s *Server) RaftConfiguration() api.RaftConfiguration {
	servers, index, err := s.node.Configuration()
	conf := api.RaftConfiguration{Servers: []*api.RaftServer{}, Index: index}
	if err != nil {
		return conf
	}
	leader, _ := s.node.Leader()
	for _, srv := range servers {
		id := string(srv.ID)
		conf.Servers = append(conf.Servers, &api.RaftServer{
			ID:              id,
			Node:            cmp.Or(s.nameOf(id), "(unknown)"),
			Address:         s.addressIn(srv),
			Leader:          id == leader,
			ProtocolVersion: "3",
			Voter:           srv.Suffrage == raft.Voter,
			LastIndex:       s.lastIndexOf(id),
		})
	}
	slices.SortFunc(conf.Servers, func(a, b *api.RaftServer) int { return strings.Compare(a.Node, b.Node) })
	return conf
}

// lastIndexOf is exact for this server. For others it is what they last reported to this
// leader, 0 at a follower.
func (s *Server) lastIndexOf(id string) uint64 {
	if id == s.cfg.NodeID {
		return s.node.LastIndex()
	}
	if p := s.pilot.Load(); p != nil {
		if srv, ok := p.Servers[raft.ServerID(id)]; ok {
			return srv.Stats.LastIndex
		}
	}
	return 0
}

// Stats are the groups "consul" and "raft" of /v1/agent/self.
func (s *Server) Stats() map[string]map[string]string {
	l := s.leader()
	stats := map[string]map[string]string{
		"consul": {
			"server":            "true",
			"leader":            strconv.FormatBool(l.Self),
			"leader_addr":       l.Addr,
			"bootstrap":         strconv.FormatBool(s.cfg.Bootstrap || s.cfg.Expect == 1),
			"known_datacenters": "1",
		},
		"raft": {},
	}
	if raftStats := s.node.Stats(); raftStats != nil {
		stats["raft"] = raftStats
	}
	return stats
}
