package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// serverService is the name and id under which servers stand in the catalog.
const serverService = "consul"

var errNotInPool = errors.New("the gossip pool does not know this server")

// maxProposals is how many members are written at once: they share an fsync.
const maxProposals = 64

// reconcile makes the catalog and raft's configuration agree with the pool. It returns
// how long to wait at most before it runs again.
func (s *Server) reconcile(ctx context.Context, pilot *autopilot.Autopilot) (time.Duration, error) {
	if _, ok := s.selfMember(); !ok {
		return s.cfg.ReconcileInterval, errNotInPool
	}
	if err := s.nameCluster(ctx); err != nil {
		return s.cfg.ReconcileInterval, err
	}
	members := slices.DeleteFunc(slices.Clone(s.cfg.Pool.Members()), s.isForeign)
	snap := s.views.Snapshot()
	plan, again := s.missing.plan(snap, members, time.Now())
	for _, m := range members {
		plan = append(plan, s.planMember(snap, m)...)
	}
	err := s.proposeAll(ctx, plan)
	return again, errors.Join(err, s.reconcileServers(ctx, pilot, members))
}

// proposeAll proposes commands that do not depend on each other.
func (s *Server) proposeAll(ctx context.Context, plan []state.Command) error {
	var group errgroup.Group // without a context: one failure stops no other
	group.SetLimit(maxProposals)
	var lock sync.Mutex
	var failed error
	for _, cmd := range plan {
		group.Go(func() error {
			if _, err := s.proposeOwn(ctx, cmd); err != nil {
				lock.Lock()
				defer lock.Unlock()
				failed = errors.Join(failed, fmt.Errorf("node %s: %w", nodeOf(cmd), err))
			}
			return nil
		})
	}
	_ = group.Wait()
	return failed
}

func nodeOf(cmd state.Command) string {
	switch c := cmd.(type) {
	case *state.Register:
		return c.Node.Node
	case *state.Deregister:
		return c.Node
	case *state.Txn:
		return c.Ops[0].Node.Node.Node
	}
	return "?"
}

func (s *Server) selfMember() (api.Member, bool) {
	for _, m := range s.cfg.Pool.Members() {
		if m.Name == s.cfg.NodeName {
			return m, m.Tags["id"] == s.cfg.NodeID
		}
	}
	return api.Member{}, false
}

// planMember gives the commands for one member: none, if the catalog is right.
func (s *Server) planMember(snap *state.Snapshot, m api.Member) []state.Command {
	switch m.Status {
	case api.MemberAlive:
		return s.planAlive(snap, m)
	case api.MemberFailed:
		return planFailed(snap, m.Name, m.Tags["id"])
	case api.MemberLeft:
		if m.Name != s.cfg.NodeName { // that one's successor deregisters it
			return planLeft(snap, m)
		}
	}
	return nil
}

// catalogEntry is what the catalog has of a member; nil where it has nothing.
type catalogEntry struct {
	node    *api.Node
	service *api.NodeService // the consul service
	health  *api.HealthCheck // serfHealth
}

func lookUp(snap *state.Snapshot, name string) catalogEntry {
	found, _ := snap.NodeServices(name)
	if found == nil || !strings.EqualFold(found.Node.Node, name) { // found by an id that begins like the name
		return catalogEntry{}
	}
	r := catalogEntry{node: found.Node, service: found.Services[serverService]}
	checks, _ := snap.HealthNode(found.Node.Node)
	for _, c := range checks {
		if c.CheckID == api.SerfHealthID && c.ServiceID == "" {
			r.health = c
		}
	}
	return r
}

// planAlive registers a member. Its agent adds the rest of the node's record (Meta,
// tagged addresses), which is kept.
func (s *Server) planAlive(snap *state.Snapshot, m api.Member) []state.Command {
	have := lookUp(snap, m.Name)
	want := serviceOf(m)
	// The whole record is sent: the node may be deregistered before this is applied.
	reg := &state.Register{Node: s.nodeRecord(have.node, m), SkipNodeUpdate: true}
	right := true
	if have.node == nil || have.node.Address != m.Addr || have.node.ID != m.Tags["id"] {
		right = false
		reg.SkipNodeUpdate = false
	}
	if h := have.health; h == nil || h.Status != api.HealthPassing || h.Output != api.SerfAliveOutput {
		right = false
		reg.Checks = []*api.HealthCheck{serfHealth(m.Name, api.HealthPassing, api.SerfAliveOutput)}
	}
	if want != nil && !sameService(have.service, want) {
		right = false
		reg.Service = want
	}
	var plan []state.Command
	if !right {
		plan = append(plan, reg)
	}
	if want == nil && have.service != nil && have.service.Service == serverService { // it was a server once
		plan = append(plan, &state.Deregister{Node: have.node.Node, ServiceID: serverService})
	}
	return plan
}

func (s *Server) nodeRecord(have *api.Node, m api.Member) *api.Node {
	n := &api.Node{
		ID: m.Tags["id"], Node: m.Name, Address: m.Addr, Datacenter: s.cfg.Datacenter,
		TaggedAddresses: map[string]string{"lan": m.Addr, "wan": m.Addr},
	}
	if have == nil {
		return n
	}
	n.Meta = have.Meta
	// Tagged addresses that equal the old address follow it; others stay.
	for name, addr := range have.TaggedAddresses {
		if addr == have.Address {
			addr = m.Addr
		}
		n.TaggedAddresses[name] = addr
	}
	return n
}

func serfHealth(node, status, output string) *api.HealthCheck {
	return &api.HealthCheck{
		Node: node, CheckID: api.SerfHealthID, Name: api.SerfHealthName, Status: status, Output: output,
	}
}

// versionPattern finds the version in a build tag.
var versionPattern = regexp.MustCompile(`\d+\.\d+\.\d+`)

// serviceOf is the consul service of a server, nil for a client.
func serviceOf(m api.Member) *api.NodeService {
	srv, ok := gossip.ServerOf(m)
	if !ok {
		return nil
	}
	port, _ := strconv.Atoi(m.Tags["port"])
	return &api.NodeService{
		ID: serverService, Service: serverService, Port: port, Tags: []string{},
		Weights: api.Weights{Passing: 1, Warning: 1},
		Meta: map[string]string{
			"version":               versionPattern.FindString(srv.Build),
			"raft_version":          m.Tags["raft_vsn"],
			"serf_protocol_current": strconv.Itoa(int(m.ProtocolCur)),
			"serf_protocol_min":     strconv.Itoa(int(m.ProtocolMin)),
			"serf_protocol_max":     strconv.Itoa(int(m.ProtocolMax)),
			"non_voter":             "false",
			"read_replica":          "false",
		},
	}
}

func sameService(have, want *api.NodeService) bool {
	return have != nil && have.Service == want.Service && have.Port == want.Port && have.Address == want.Address &&
		maps.Equal(have.Meta, want.Meta)
}

// planFailed makes a node critical. It does nothing if the catalog does not have the node,
// or it belongs to another agent by now. A transaction makes sure that nothing happens
// either if the node is deregistered or registered again before the command is applied; a
// registration would bring it back, without an address.
func planFailed(snap *state.Snapshot, name, id string) []state.Command {
	have := lookUp(snap, name)
	if have.node == nil || id != "" && have.node.ID != "" && have.node.ID != id {
		return nil
	}
	if have.health != nil && have.health.Status == api.HealthCritical && have.health.Output == api.SerfFailedOutput {
		return nil
	}
	failed := serfHealth(have.node.Node, api.HealthCritical, api.SerfFailedOutput)
	if have.health != nil {
		failed.ModifyIndex = have.health.ModifyIndex // 0: there is none yet
	}
	return []state.Command{&state.Txn{Ops: []*api.TxnOp{
		{Node: &api.TxnNodeOp{Verb: "get", Node: api.Node{Node: have.node.Node}}}, // fails if it is gone
		{Check: &api.TxnCheckOp{Verb: "cas", Check: *failed}},
	}}}
}

// planLeft removes a node. One without serfHealth is not an agent's: it was registered
// again by hand.
func planLeft(snap *state.Snapshot, m api.Member) []state.Command {
	have := lookUp(snap, m.Name)
	id := m.Tags["id"]
	if have.node == nil || have.health == nil || have.node.ID != "" && have.node.ID != id {
		return nil
	}
	return []state.Command{&state.Deregister{Node: have.node.Node, Left: true}}
}

// reconcileServers makes raft's configuration follow the servers of the pool: those that
// are alive are added (as non-voters at first), those that have left are removed.
// Autopilot removes those that have failed.
func (s *Server) reconcileServers(ctx context.Context, pilot *autopilot.Autopilot, members []api.Member) error {
	alive := map[string]gossip.Server{}
	var left []gossip.Server
	for _, m := range members {
		if srv, ok := gossip.ServerOf(m); ok {
			switch m.Status {
			case api.MemberAlive:
				alive[srv.ID] = srv
			case api.MemberLeft:
				left = append(left, srv)
			}
		}
	}
	var failed error
	for _, srv := range alive {
		if err := s.addServer(ctx, pilot, srv); err != nil {
			failed = errors.Join(failed, fmt.Errorf("add server %s (%s) to the raft configuration: %w", srv.Name, srv.Addr, err))
		}
	}
	for _, srv := range left {
		if _, back := alive[srv.ID]; back || srv.ID == s.cfg.NodeID {
			continue
		}
		if err := s.removeServer(pilot, srv, alive); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove server %s (%s) from the raft configuration: %w", srv.Name, srv.Addr, err))
		}
	}
	return errors.Join(failed, s.removeReplaced(pilot, alive))
}

// addServer adds a server, unless it is configured with this address.
func (s *Server) addServer(ctx context.Context, pilot *autopilot.Autopilot, srv gossip.Server) error {
	servers, _, err := s.node.Configuration()
	if err != nil {
		return err
	}
	for _, have := range servers {
		if string(have.ID) == srv.ID && string(have.Address) == srv.Addr {
			return nil
		}
	}
	if ok, inUse := s.mayAdd(srv); !ok {
		return fmt.Errorf("it is at feature level %d and this cluster has written at level %d, which it cannot read: upgrade that server", srv.Level, inUse)
	}
	switch err := s.verifyNewServer(ctx, srv); {
	case errors.Is(err, clusterid.ErrForeign), errors.Is(err, clusterid.ErrOutdated):
		s.logRefused(srv, err)
		return nil
	case err != nil:
		return err
	}
	s.cfg.Logger.Info("adding a server to the raft configuration", "name", srv.Name, "id", srv.ID, "address", srv.Addr)
	return pilot.AddServer(&autopilot.Server{
		ID: raft.ServerID(srv.ID), Name: srv.Name, Address: raft.ServerAddress(srv.Addr), NodeStatus: autopilot.NodeAlive,
	})
}

// removeServer removes a server, but not while the others would lose their quorum by
// that.
func (s *Server) removeServer(pilot *autopilot.Autopilot, srv gossip.Server, alive map[string]gossip.Server) error {
	servers, _, err := s.node.Configuration()
	if err != nil {
		return err
	}
	configured, safe := removable(servers, srv.ID, alive)
	if !configured {
		return nil
	}
	if !safe {
		s.cfg.Logger.Warn("a server has left but stays in the raft configuration: without it the others have no majority", "name", srv.Name, "id", srv.ID)
		return nil
	}
	s.cfg.Logger.Info("removing a server that left from the raft configuration", "name", srv.Name, "id", srv.ID)
	return pilot.RemoveServer(raft.ServerID(srv.ID))
}

// removable says whether a server is configured, and whether a majority of the other
// voters is alive.
func removable(servers []raft.Server, id string, alive map[string]gossip.Server) (configured, safe bool) {
	others, living := 0, 0
	voter := false
	for _, have := range servers {
		if string(have.ID) == id {
			configured, voter = true, have.Suffrage == raft.Voter
			continue
		}
		if have.Suffrage == raft.Voter {
			others++
			if _, ok := alive[string(have.ID)]; ok {
				living++
			}
		}
	}
	return configured, !voter || living > others/2
}
