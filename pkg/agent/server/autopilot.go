package server

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/hclogx"
	"github.com/muster-dev/muster/pkg/api"
)

// Autopilot says when servers become voters and when dead ones are removed.
type Autopilot struct {
	KeepDeadServers         bool // cleanup_dead_servers = false
	LastContactThreshold    time.Duration
	MaxTrailingLogs         uint64
	MinQuorum               uint
	ServerStabilizationTime time.Duration

	UpdateInterval    time.Duration // how often the servers' health is asked for
	ReconcileInterval time.Duration // how often it has consequences
}

type autopilotState = autopilot.State

// newAutopilot makes the autopilot of one leadership. The removals of dead servers run in
// helpers.
func (s *Server) newAutopilot(helpers *sync.WaitGroup) (*autopilot.Autopilot, error) {
	r, err := s.node.Raft()
	if err != nil {
		return nil, err
	}
	conf := s.cfg.Autopilot
	return autopilot.New(r, autopilotDelegate{s, helpers},
		autopilot.WithLogger(hclogx.New(s.cfg.Logger)),
		autopilot.WithPromoter(&promoter{}),
		autopilot.WithUpdateInterval(conf.UpdateInterval),
		autopilot.WithReconcileInterval(conf.ReconcileInterval)), nil
}

// autopilotDelegate is how autopilot sees the cluster.
type autopilotDelegate struct {
	s       *Server
	helpers *sync.WaitGroup
}

func (d autopilotDelegate) AutopilotConfig() *autopilot.Config {
	conf := d.s.cfg.Autopilot
	return &autopilot.Config{
		CleanupDeadServers:      !conf.KeepDeadServers,
		LastContactThreshold:    conf.LastContactThreshold,
		MaxTrailingLogs:         conf.MaxTrailingLogs,
		MinQuorum:               conf.MinQuorum,
		ServerStabilizationTime: conf.ServerStabilizationTime,
	}
}

// NotifyState makes the leader reconcile when the number of voters has changed: the former
// id of a repaired server can be removed then.
func (d autopilotDelegate) NotifyState(st *autopilot.State) {
	if old := d.s.pilot.Swap(st); old == nil || len(old.Voters) != len(st.Voters) {
		d.s.members.Notify()
	}
}

func (d autopilotDelegate) KnownServers() map[raft.ServerID]*autopilot.Server {
	known := map[raft.ServerID]*autopilot.Server{}
	leader, _ := d.s.node.Leader()
	for _, m := range d.s.cfg.Pool.Members() {
		srv, ok := gossip.ServerOf(m)
		if !ok || d.s.isForeign(m) {
			continue
		}
		id := raft.ServerID(srv.ID)
		if have := known[id]; have != nil && have.NodeStatus == autopilot.NodeAlive {
			continue // the same server under a former name
		}
		known[id] = &autopilot.Server{
			ID: id, Name: srv.Name, Address: raft.ServerAddress(srv.Addr), NodeStatus: nodeStatus(m.Status),
			Version: versionPattern.FindString(srv.Build), RaftVersion: 3, IsLeader: srv.ID == leader,
			NodeType: autopilot.NodeVoter,
		}
	}
	return known
}

func nodeStatus(status int) autopilot.NodeStatus {
	switch status {
	case api.MemberAlive, api.MemberLeaving:
		return autopilot.NodeAlive
	case api.MemberLeft:
		return autopilot.NodeLeft
	case api.MemberFailed:
		return autopilot.NodeFailed
	}
	return autopilot.NodeUnknown
}

// FetchServerStats asks every server for its place in the log. The result lacks those that
// do not answer.
func (d autopilotDelegate) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	var lock sync.Mutex
	found := map[raft.ServerID]*autopilot.ServerStats{}
	var asking sync.WaitGroup
	for id, srv := range servers {
		asking.Go(func() {
			stats, err := d.s.statsOf(ctx, string(id), string(srv.Address))
			if err != nil {
				d.s.cfg.Logger.Debug("a server does not say how far its log goes", "name", srv.Name, "error", err)
				return
			}
			lock.Lock()
			defer lock.Unlock()
			found[id] = &autopilot.ServerStats{LastContact: stats.LastContact, LastTerm: stats.LastTerm, LastIndex: stats.LastIndex}
		})
	}
	asking.Wait()
	return found
}

// RemoveFailedServer makes a dead server leave the pool. The leader then removes it from
// raft's configuration and from the catalog.
func (d autopilotDelegate) RemoveFailedServer(srv *autopilot.Server) {
	if srv.NodeStatus != autopilot.NodeFailed {
		return // reconcileServers removes those that left
	}
	d.helpers.Go(func() {
		d.s.cfg.Logger.Info("removing a dead server", "name", srv.Name, "id", srv.ID)
		if err := d.s.cfg.Pool.ForceLeave(srv.Name, false); err != nil {
			d.s.cfg.Logger.Warn("could not remove a dead server; it will be tried again", "name", srv.Name, "error", err)
		}
	})
}

// promoter is autopilot's own but for the removal of dead servers.
type promoter struct{ autopilot.StablePromoter }

// FilterFailedServerRemovals allows the removal of dead voters only if it helps: if as many
// servers live as there are voters (replacements have come), or if fewer voters need a
// smaller majority. To go from three voters to two, for example, gains nothing, and the
// third could not help when it comes back.
func (*promoter) FilterFailedServerRemovals(_ *autopilot.Config, st *autopilot.State, failed *autopilot.FailedServers) *autopilot.FailedServers {
	dead := map[raft.ServerID]bool{} // newer than what st says
	for _, id := range slices.Concat(failed.StaleVoters, failed.StaleNonVoters) {
		dead[id] = true
	}
	for _, srv := range slices.Concat(failed.FailedVoters, failed.FailedNonVoters) {
		dead[srv.ID] = true
	}
	voters, deadVoters, living := 0, 0, 0
	for id, srv := range st.Servers {
		if srv.HasVotingRights() {
			voters++
			if dead[id] {
				deadVoters++
			}
		}
		if !dead[id] {
			living++
		}
	}
	if living >= voters || (voters-deadVoters)/2 < voters/2 {
		return failed
	}
	failed.StaleVoters, failed.FailedVoters = nil, nil
	return failed
}

// ownStats is this server's place in the log.
func (s *Server) ownStats() peerStats {
	term, _ := strconv.ParseUint(s.node.Stats()["last_log_term"], 10, 64)
	return peerStats{LastContact: s.node.LastContact(), LastTerm: term, LastIndex: s.node.LastIndex(), Applied: s.node.AppliedIndex()}
}
