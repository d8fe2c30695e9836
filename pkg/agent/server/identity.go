package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// Which cluster this server belongs to, and whether the other servers have forgotten
// anything: see package clusterid. The id is stored before raft's first configuration, or
// before anything that a leader sends is stored. The leader also puts it into the state,
// so that a cluster that was founded before there were ids gets one, too.

const (
	helloTimeout = 2 * time.Second // to ask a server who it is
	helloRetry   = 5 * time.Second
)

// RunTag is how a start of a server is named in its tags.
func RunTag(h clusterid.Hello) string { return strconv.FormatUint(h.Start, 10) + "." + h.Run() }

func runOf(srv gossip.Server) (start uint64, run string) {
	number, run, _ := strings.Cut(srv.Tags[gossip.TagRun], ".")
	start, _ = strconv.ParseUint(number, 10, 64)
	return start, run
}

// isForeign says whether a member is a server of another cluster.
func (s *Server) isForeign(m api.Member) bool {
	srv, ok := gossip.ServerOf(m)
	own := s.cfg.Identity.Cluster()
	return ok && own != "" && srv.Cluster() != "" && srv.Cluster() != own
}

// confirmCluster records whether this server has raft state, from which on its cluster id
// is final, and publishes a final one in its tags.
func (s *Server) confirmCluster(ctx context.Context, hasState bool) error {
	if err := s.cfg.Identity.Confirm(hasState); err != nil {
		return err
	}
	if id := s.cfg.Identity.Confirmed(); id != "" {
		s.setTag(ctx, gossip.TagCluster, id)
	}
	return nil
}

// checkClusterID compares the cluster id of the state with this server's, and adopts it if
// this server has none. Raft's goroutine calls it with each new state.
func (s *Server) checkClusterID(snap *state.Snapshot) {
	id := snap.ClusterID()
	if id == "" || id == s.cfg.Identity.Cluster() {
		return
	}
	switch err := s.cfg.Identity.Join(id); {
	case errors.Is(err, clusterid.ErrForeign):
		s.node.Fail(fmt.Errorf("the data of cluster %s has come to this server, which belongs to cluster %s: it stops; "+
			"move its data directory away, and start it with -retry-join to make it a new server of the cluster that it should belong to", id, s.cfg.Identity.Cluster()))
	case err != nil:
		s.cfg.Logger.Warn("could not store the id of the cluster; it will be tried again", "error", err)
	default:
		s.members.Notify()
	}
}

// runIdentities publishes a cluster id that came with the state, and verifies the servers
// that start: a data directory that was put back is noticed only by those who met a later
// start of its server. It returns when ctx ends.
func (s *Server) runIdentities(ctx context.Context) {
	for {
		changed, wait := s.members.Changed(), time.Duration(-1)
		if has, err := s.node.HasState(); err == nil && has {
			if err := s.confirmCluster(ctx, true); err != nil {
				s.cfg.Logger.Warn("could not store the id of the cluster; trying again", "error", err)
				wait = helloRetry
			}
		}
		if !s.verifyServers(ctx) {
			wait = helloRetry
		}
		if !waitFor(ctx, changed, wait) {
			return
		}
	}
}

// verifyServers asks the servers whose present start is not known who they are. It
// returns false if one did not answer.
func (s *Server) verifyServers(ctx context.Context) bool {
	all := true
	for _, m := range s.cfg.Pool.Members() {
		srv, ok := gossip.ServerOf(m)
		start, run := runOf(srv)
		if !ok || m.Status != api.MemberAlive || srv.ID == s.cfg.NodeID || run == "" || s.isForeign(m) || s.cfg.Identity.Knows(srv.ID, start, run) {
			continue
		}
		h, err := s.askHello(ctx, srv)
		if err != nil {
			all = false
			continue
		}
		if err := s.cfg.Identity.VerifyPeer(h); err != nil {
			s.logRefused(srv, err)
		}
	}
	return all
}

// askHello asks a server who it is.
func (s *Server) askHello(ctx context.Context, srv gossip.Server) (clusterid.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	var h clusterid.Hello
	err := s.askServer(ctx, srv.Addr, httpapi.HelloPath, &h)
	if err == nil && h.ID != srv.ID {
		err = fmt.Errorf("at %s there is the server %s and not %s", srv.Addr, h.ID, srv.ID)
	}
	return h, err
}

// logRefused logs once for each start of a server why nothing is exchanged with it.
func (s *Server) logRefused(srv gossip.Server, why error) {
	if s.logged.First("refused server " + srv.ID + srv.Tags[gossip.TagRun]) {
		s.cfg.Logger.Error("refused a server", "name", srv.Name, "id", srv.ID, "address", srv.Addr, "error", why)
	}
}

// checkPeer refuses a raft stream with a server that gossip knows at another address: of
// two that run under one id the second is refused. A server that belongs to no cluster
// yet may enter the one whose pool it has joined, and no other.
func (s *Server) checkPeer(h clusterid.Hello) error {
	own := s.cfg.Identity.Hello("")
	if h.ID == own.ID && h.Run() == own.Run() { // a server sends itself the order to start an election
		return nil
	}
	if h.ID == s.cfg.NodeID {
		return fmt.Errorf("the server at %s has the id of this one, %s: one of the two data directories is a copy of the other, or both have the same node_id; stop that server and start it with an empty data directory and another node_id", h.Address, h.ID)
	}
	if pool := s.cfg.Pool.Cluster(); s.cfg.Identity.Cluster() == "" && pool != "" && h.Cluster != "" && h.Cluster != pool {
		return clusterid.Foreign(h.Cluster, pool)
	}
	srv, ok := s.cfg.Pool.ServerByID(h.ID)
	if ok && srv.Status == api.MemberAlive && h.Address != "" && srv.Addr != h.Address {
		return fmt.Errorf("the id %s is that of server %s, which lives at %s, and not at %s: if the server has moved, this ends by itself within seconds; "+
			"if there are two, one data directory is a copy of the other: stop the copy and start it with an empty data directory, or with -repair", h.ID, srv.Name, srv.Addr, h.Address)
	}
	return nil
}

// Hello says who this server is.
func (s *Server) Hello() any { return s.cfg.Identity.Hello(s.cfg.Address) }

// nameCluster puts the cluster's id into the state, if it has none.
func (s *Server) nameCluster(ctx context.Context) error {
	if s.views.Snapshot().ClusterID() != "" || s.writeLevel() < state.LevelClusterID {
		return nil
	}
	id := s.cfg.Identity.Cluster()
	if id == "" {
		id = clusterid.New()
	}
	if _, err := s.proposeOwn(ctx, &state.ClusterID{ID: id}); err != nil {
		return fmt.Errorf("give the cluster its id: %w", err)
	}
	return nil
}

// verifyNewServer asks a server that is to be added whether it belongs to this cluster, or
// to none yet; what gossip says may be older.
func (s *Server) verifyNewServer(ctx context.Context, srv gossip.Server) error {
	if srv.Level < state.LevelClusterID { // it does not know the question
		return nil
	}
	h, err := s.askHello(ctx, srv)
	if err != nil {
		return err
	}
	return s.cfg.Identity.VerifyPeer(h)
}
