package server

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/api"
)

// A server founds a cluster by writing raft's first configuration. Two servers that write
// different ones would found two clusters. So servers with bootstrap_expect = N first
// agree through their tags. Each server that knows N of them proposes the first N by id
// (tag "propose": the id of the cluster that these found in their present starts). A
// server founds the cluster when all N propose the same. A server that has raft state has
// the tag "boot"; while any server has it, no server founds a cluster, and the leader adds
// the others. A server that founds a cluster alone first tries to join the servers in its
// configuration: it may have been part of a cluster, and have lost its data directory.

// agreeTime is how long the servers wait after they have agreed, if there are more than
// needed: their views of the pool may still differ.
const agreeTime = 500 * time.Millisecond

type tag struct{ key, value string }

// sendTags changes this server's tags, in order, on its own goroutine: a change takes a
// few rounds of gossip.
func (s *Server) sendTags(ctx context.Context) {
	if s.cfg.Pool.AwaitUp(ctx) != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-s.tags:
			if err := s.cfg.Pool.SetTag(t.key, t.value); err != nil {
				s.cfg.Logger.Warn("could not send a changed tag to all members; they will learn of it later", "tag", t.key, "error", err)
			}
		}
	}
}

func (s *Server) setTag(ctx context.Context, key, value string) {
	select {
	case s.tags <- tag{key, value}:
	case <-ctx.Done():
	}
}

// runBootstrap returns once this server has raft state: its own, or what a
// leader has sent.
func (s *Server) runBootstrap(ctx context.Context) {
	if s.bootstrapsAlone() && !s.awaitJoined(ctx) {
		return
	}
	proposed := ""
	var agreedAt time.Time // zero: the set has not agreed
	for {
		next := s.changed.Changed()
		if has, err := s.node.HasState(); err != nil || has {
			if err == nil {
				s.endBootstrap(ctx)
			}
			return
		}
		set, surplus, conflict := s.founders()
		if conflict != "" && s.logged.First("bootstrap_expect differs") {
			s.cfg.Logger.Error("the cluster cannot begin: servers disagree on bootstrap_expect", "this server", s.cfg.Expect, "other", conflict)
		}
		key := clusterIDOf(set)
		if key != "" && s.bootstraps.CompareAndSwap(false, true) {
			s.changed.Notify() // another founder may found the cluster before this one: see runGate
		}
		if key != proposed {
			s.setTag(ctx, gossip.TagProposal, key)
			proposed, agreedAt = key, time.Time{}
		}
		wait := time.Duration(-1)
		if len(set) == 0 || !s.agreed(set, key) {
			agreedAt = time.Time{}
		} else {
			if agreedAt.IsZero() {
				agreedAt = time.Now()
			}
			if wait = time.Until(agreedAt.Add(agreeTime)); !surplus || wait <= 0 {
				if s.bootstrap(set) {
					continue
				}
				wait = agreeTime
			}
		}
		if !waitFor(ctx, next, wait) {
			return
		}
	}
}

// endBootstrap is called when this server has raft state.
func (s *Server) endBootstrap(ctx context.Context) {
	if err := s.confirmCluster(ctx, true); err != nil {
		s.node.Fail(err)
	}
	s.setTag(ctx, gossip.TagBoot, "1")
	s.setTag(ctx, gossip.TagProposal, "")
}

// waitFor waits for next, or for d if that is not negative. It returns false if ctx
// ended first.
func waitFor(ctx context.Context, next <-chan struct{}, d time.Duration) bool {
	var after <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-next:
	case <-after:
	case <-ctx.Done():
		return false
	}
	return true
}

// founders are the servers that found the cluster, sorted by id; none while that is not
// possible. surplus says that there are more than needed, conflict names a server that
// expects another number.
func (s *Server) founders() (set []gossip.Server, surplus bool, conflict string) {
	self := gossip.Server{ID: s.cfg.NodeID, Name: s.cfg.NodeName, Addr: s.cfg.Address, Tags: map[string]string{gossip.TagRun: RunTag(s.cfg.Identity.Hello(""))}}
	if s.bootstrapsAlone() {
		if other, exists := s.existing(); exists {
			if s.logged.First("a cluster exists") {
				s.cfg.Logger.Error("this server founds no cluster, though it is told to (-bootstrap or -bootstrap-expect=1): one exists, and it waits until the leader adds it there; remove that setting",
					"known from", other.Name, "address", other.Addr, "cluster", other.Cluster())
			}
			return nil, false, ""
		}
		return []gossip.Server{self}, false, ""
	}
	if s.cfg.Expect == 0 {
		return nil, false, ""
	}
	for _, m := range s.cfg.Pool.Members() {
		srv, ok := gossip.ServerOf(m)
		if !ok || m.Status == api.MemberLeft {
			continue
		}
		if srv.Tags[gossip.TagBoot] != "" { // even if it has failed: a cluster exists
			return nil, false, ""
		}
		if m.Status != api.MemberAlive || srv.Expect == 0 {
			continue
		}
		if srv.Expect != s.cfg.Expect {
			conflict = srv.Name
		}
		set = append(set, srv)
	}
	if conflict != "" || len(set) < s.cfg.Expect {
		return nil, false, conflict
	}
	slices.SortFunc(set, func(a, b gossip.Server) int { return cmp.Compare(a.ID, b.ID) })
	surplus = len(set) > s.cfg.Expect
	set = set[:s.cfg.Expect]
	if !slices.ContainsFunc(set, func(srv gossip.Server) bool { return srv.ID == self.ID }) {
		return nil, false, "" // the others found the cluster and add this one
	}
	return set, surplus, ""
}

// bootstrapsAlone says whether this server is to found a cluster by itself.
func (s *Server) bootstrapsAlone() bool { return s.cfg.Bootstrap || s.cfg.Expect == 1 }

// existing is a member of a cluster that exists, even if it has failed.
func (s *Server) existing() (gossip.Server, bool) {
	for _, m := range s.cfg.Pool.Members() {
		srv, ok := gossip.ServerOf(m)
		if ok && m.Status != api.MemberLeft && srv.ID != s.cfg.NodeID && (srv.Tags[gossip.TagBoot] != "" || srv.Cluster() != "") {
			return srv, true
		}
	}
	return gossip.Server{}, false
}

// awaitJoined waits until the join of a server without state was tried. It returns false
// if ctx ended first.
func (s *Server) awaitJoined(ctx context.Context) bool {
	if has, err := s.node.HasState(); s.cfg.Joined == nil || err != nil || has {
		return true
	}
	select {
	case <-s.cfg.Joined:
		return true
	case <-ctx.Done():
		return false
	}
}

// clusterIDOf is the id of the cluster that these servers found; "" for none.
func clusterIDOf(set []gossip.Server) string {
	if len(set) == 0 {
		return ""
	}
	founders := make([]clusterid.Founder, len(set))
	for i, srv := range set {
		founders[i] = clusterid.Founder{ID: srv.ID, Run: srv.Tags[gossip.TagRun]}
	}
	return clusterid.FoundedBy(founders)
}

// agreed says whether all servers of the set propose it.
func (s *Server) agreed(set []gossip.Server, key string) bool {
	for _, srv := range set {
		if srv.ID != s.cfg.NodeID && srv.Tags[gossip.TagProposal] != key {
			return false
		}
	}
	return true
}

// bootstrap writes the first configuration. The others of the set may do so too:
// they write the same.
func (s *Server) bootstrap(set []gossip.Server) bool {
	servers := make([]raft.Server, len(set))
	for i, srv := range set {
		servers[i] = raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(srv.ID), Address: raft.ServerAddress(srv.Addr)}
	}
	id := clusterIDOf(set)
	if err := s.cfg.Identity.Join(id); err != nil {
		s.cfg.Logger.Info("this server founds no cluster: a leader has added it to one", "error", err)
		return false
	}
	s.cfg.Logger.Info("beginning a new cluster", "servers", len(servers), "cluster", id)
	if err := s.node.Bootstrap(servers); err != nil {
		// Most likely another founder leads already and has sent it.
		s.cfg.Logger.Info("could not write the first raft configuration", "error", err)
		return false
	}
	return true
}
