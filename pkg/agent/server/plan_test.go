package server

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// catalog is a state that a test writes to without raft.
type catalog struct {
	t     *testing.T
	store *state.Store
	index uint64
}

func newCatalog(t *testing.T) *catalog { return &catalog{t: t, store: state.New()} }

func (c *catalog) apply(cmds ...state.Command) {
	c.t.Helper()
	for _, cmd := range cmds {
		data, err := state.Encode(cmd, time.Now(), state.Level)
		if err != nil {
			c.t.Fatal(err)
		}
		c.index++
		results, _ := c.store.ApplyBatch([]state.Entry{{Index: c.index, Data: data}})
		if err, ok := results[0].(error); ok {
			c.t.Fatal(err)
		}
	}
}

func uuid(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }

func client(name string, id int, addr string, status int) api.Member {
	return api.Member{Name: name, Addr: addr, Port: 8301, Status: status, Tags: map[string]string{"role": "node", "id": uuid(id), "dc": "dc1"}}
}

func server(name string, id int, addr string, status int, tags ...string) api.Member {
	m := client(name, id, addr, status)
	maps.Copy(m.Tags, map[string]string{"role": "consul", "port": "8300", "build": "1.0.0:aaaaaaaa", "raft_vsn": "3"})
	for i := 0; i+1 < len(tags); i += 2 {
		m.Tags[tags[i]] = tags[i+1]
	}
	return m
}

func planner() *Server {
	return &Server{cfg: Config{NodeName: "me", NodeID: uuid(1), Datacenter: "dc1"}}
}

// TestPlanIsIdempotent: what a plan writes is what the next plan wants.
func TestPlanIsIdempotent(t *testing.T) {
	s := planner()
	c := newCatalog(t)
	steps := []struct {
		what   string
		member api.Member
		want   int // commands
		check  func(catalogEntry) error
	}{
		{"client comes", client("n", 2, "10.0.0.2", api.MemberAlive), 1, func(r catalogEntry) error {
			return r.expect("10.0.0.2", api.HealthPassing, false)
		}},
		{"client fails", client("n", 2, "10.0.0.2", api.MemberFailed), 1, func(r catalogEntry) error {
			return r.expect("10.0.0.2", api.HealthCritical, false)
		}},
		{"client is back elsewhere", client("n", 2, "10.0.0.9", api.MemberAlive), 1, func(r catalogEntry) error {
			if r.node.TaggedAddresses["lan"] != "10.0.0.9" {
				return fmt.Errorf("tagged addresses %v", r.node.TaggedAddresses)
			}
			return r.expect("10.0.0.9", api.HealthPassing, false)
		}},
		{"leaving is not left", client("n", 2, "10.0.0.9", api.MemberLeaving), 0, func(r catalogEntry) error {
			return r.expect("10.0.0.9", api.HealthPassing, false)
		}},
		{"client becomes a server", server("n", 2, "10.0.0.9", api.MemberAlive), 1, func(r catalogEntry) error {
			return r.expect("10.0.0.9", api.HealthPassing, true)
		}},
		{"server gets another version", server("n", 2, "10.0.0.9", api.MemberAlive, "build", "1.0.1:bbbbbbbb"), 1, func(r catalogEntry) error {
			if r.service.Meta["version"] != "1.0.1" {
				return fmt.Errorf("meta %v", r.service.Meta)
			}
			return nil
		}},
		{"server becomes a client", client("n", 2, "10.0.0.9", api.MemberAlive), 1, func(r catalogEntry) error {
			return r.expect("10.0.0.9", api.HealthPassing, false)
		}},
		{"another agent's failure", client("n", 77, "10.0.0.9", api.MemberFailed), 0, func(r catalogEntry) error {
			return r.expect("10.0.0.9", api.HealthPassing, false)
		}},
		{"another agent's leave", client("n", 77, "10.0.0.9", api.MemberLeft), 0, func(r catalogEntry) error {
			return r.expect("10.0.0.9", api.HealthPassing, false)
		}},
		{"client leaves", client("n", 2, "10.0.0.9", api.MemberLeft), 1, func(r catalogEntry) error {
			if r.node != nil {
				return errors.New("the node is still there")
			}
			return nil
		}},
		{"who is unknown and fails is not registered", client("n", 2, "10.0.0.9", api.MemberFailed), 0, func(r catalogEntry) error { return nil }},
	}
	for _, step := range steps {
		plan := s.planMember(c.store.Snapshot(), step.member)
		if len(plan) != step.want {
			t.Fatalf("%s: planned %d commands, want %d: %+v", step.what, len(plan), step.want, plan)
		}
		c.apply(plan...)
		if err := step.check(lookUp(c.store.Snapshot(), "N")); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		if again := s.planMember(c.store.Snapshot(), step.member); len(again) != 0 {
			t.Errorf("%s: planned again: %+v", step.what, again[0])
		}
	}
}

func (r catalogEntry) expect(addr, status string, service bool) error {
	if r.node == nil || r.health == nil {
		return errors.New("not registered")
	}
	if r.node.Address != addr || r.health.Status != status || (r.service != nil) != service {
		return fmt.Errorf("node %+v, serfHealth %+v, service %+v", r.node, r.health, r.service)
	}
	return nil
}

func TestPlanKeepsWhatTheAgentWrote(t *testing.T) {
	s := planner()
	c := newCatalog(t)
	c.apply(&state.Register{Node: &api.Node{ID: uuid(2), Node: "n", Address: "10.0.0.2", Datacenter: "dc1",
		Meta: map[string]string{"rack": "7"}, TaggedAddresses: map[string]string{"lan": "10.0.0.2", "wan": "192.0.2.1"}}})
	c.apply(s.planMember(c.store.Snapshot(), client("n", 2, "10.0.0.2", api.MemberAlive))...)
	c.apply(s.planMember(c.store.Snapshot(), client("n", 2, "10.0.0.3", api.MemberAlive))...)
	n := lookUp(c.store.Snapshot(), "n").node
	if n.Address != "10.0.0.3" || n.Meta["rack"] != "7" || n.TaggedAddresses["lan"] != "10.0.0.3" || n.TaggedAddresses["wan"] != "192.0.2.1" {
		t.Errorf("the node is now %+v", n)
	}
}

func TestPlanLeavesOthersAlone(t *testing.T) {
	s := planner()
	c := newCatalog(t)
	c.apply(&state.Register{Node: &api.Node{Node: "byhand", Address: "10.0.0.5"}})
	if plan := s.planMember(c.store.Snapshot(), client("byhand", 2, "10.0.0.2", api.MemberLeft)); len(plan) != 0 {
		t.Errorf("a node without serfHealth is to be deregistered: %+v", plan[0])
	}
	c.apply(s.planMember(c.store.Snapshot(), server("me", 1, "10.0.0.1", api.MemberAlive))...)
	if plan := s.planMember(c.store.Snapshot(), server("me", 1, "10.0.0.1", api.MemberLeft)); len(plan) != 0 {
		t.Errorf("the leader deregisters itself: %+v", plan[0])
	}
	// A name that looks like the beginning of somebody's id is not that node.
	if r := lookUp(c.store.Snapshot(), uuid(1)[:8]); r.node != nil {
		t.Errorf("found %s by its id", r.node.Node)
	}
}

func TestAbsentees(t *testing.T) {
	s := planner()
	c := newCatalog(t)
	met, unmet := client("met", 2, "10.0.0.2", api.MemberAlive), client("Unmet", 3, "10.0.0.3", api.MemberAlive)
	for _, m := range []api.Member{met, unmet} {
		c.apply(s.planMember(c.store.Snapshot(), m)...)
	}
	c.apply(&state.Register{Node: &api.Node{Node: "byhand", Address: "10.0.0.5"}})

	a := newMissingNodes()
	now := time.Now()
	step := func(members ...api.Member) (int, time.Duration) {
		t.Helper()
		plan, again := a.plan(c.store.Snapshot(), members, now)
		c.apply(plan...)
		return len(plan), again
	}
	if n, again := step(met); n != 0 || again != missingGrace {
		t.Errorf("at the start: %d commands, again in %v", n, again)
	}
	if n, _ := step(); n != 1 || lookUp(c.store.Snapshot(), "met").node != nil {
		t.Errorf("who was met and is gone should be deregistered at once: %d commands", n)
	}
	now = now.Add(missingGrace)
	if n, _ := step(); n != 1 || lookUp(c.store.Snapshot(), "unmet").health.Status != api.HealthCritical {
		t.Errorf("who was never met should be critical after the grace: %d commands", n)
	}
	if n, again := step(); n != 0 || again > missingLimit {
		t.Errorf("planned again: %d commands, again in %v", n, again)
	}
	// Seen in between: the clock starts anew, and it counts as met.
	now = now.Add(missingLimit)
	if n, _ := step(unmet); n != 0 {
		t.Errorf("a member is treated as absent: %d commands", n)
	}
	if n, _ := step(); n != 1 || lookUp(c.store.Snapshot(), "unmet").node != nil {
		t.Errorf("it was met now, and should go: %d commands", n)
	}
	if n, _ := step(); n != 0 || len(a.seen) != 0 || len(a.since) != 0 {
		t.Errorf("still remembered: %v, %v", a.seen, a.since)
	}
	if lookUp(c.store.Snapshot(), "byhand").node == nil {
		t.Error("a node without serfHealth was removed")
	}
}

func TestAbsentForThreeDays(t *testing.T) {
	c := newCatalog(t)
	c.apply(planner().planMember(c.store.Snapshot(), client("n", 2, "10.0.0.2", api.MemberAlive))...)
	a := newMissingNodes()
	began := time.Now()
	a.plan(c.store.Snapshot(), nil, began)
	plan, _ := a.plan(c.store.Snapshot(), nil, began.Add(missingLimit))
	if len(plan) != 1 {
		t.Fatalf("planned %d commands", len(plan))
	}
	if _, ok := plan[0].(*state.Deregister); !ok {
		t.Errorf("planned %+v", plan[0])
	}
}

func TestRemovable(t *testing.T) {
	conf := func(voters ...int) []raft.Server {
		var out []raft.Server
		for _, v := range voters {
			out = append(out, raft.Server{ID: raft.ServerID(uuid(v)), Suffrage: raft.Voter})
		}
		return append(out, raft.Server{ID: raft.ServerID(uuid(9)), Suffrage: raft.Nonvoter})
	}
	for _, c := range []struct {
		what             string
		servers          []raft.Server
		leaves           int
		alive            []int
		configured, safe bool
	}{
		{"one of three", conf(1, 2, 3), 3, []int{1, 2}, true, true},
		{"one of three while one is dead", conf(1, 2, 3), 3, []int{1}, true, false},
		{"one of two", conf(1, 2), 2, []int{1}, true, true},
		{"one of five while one is dead", conf(1, 2, 3, 4, 5), 5, []int{1, 2, 3}, true, true},
		{"one of five while two are dead", conf(1, 2, 3, 4, 5), 5, []int{1, 2}, true, false},
		{"a non-voter while two of three are dead", conf(1, 2, 3), 9, []int{1}, true, true},
		{"a stranger", conf(1, 2, 3), 4, []int{1, 2, 3}, false, true},
	} {
		alive := map[string]gossip.Server{}
		for _, id := range c.alive {
			alive[uuid(id)] = gossip.Server{}
		}
		configured, safe := removable(c.servers, uuid(c.leaves), alive)
		if configured != c.configured || safe != c.safe {
			t.Errorf("%s: configured %v, safe %v", c.what, configured, safe)
		}
	}
}

func TestWhichDeadVotersGo(t *testing.T) {
	for _, c := range []struct {
		voters, nonvoters, dead int
		goes                    bool
	}{
		{3, 0, 1, false}, {3, 1, 1, true}, {4, 0, 1, true}, {5, 0, 1, false}, {5, 0, 2, true}, {5, 1, 1, true}, {2, 0, 1, true},
	} {
		st := &autopilot.State{Servers: map[raft.ServerID]*autopilot.ServerState{}}
		failed := &autopilot.FailedServers{}
		for i := range c.voters + c.nonvoters {
			srv := &autopilot.ServerState{Server: autopilot.Server{ID: raft.ServerID(uuid(i)), NodeStatus: autopilot.NodeAlive}, State: autopilot.RaftVoter}
			if i >= c.voters {
				srv.State = autopilot.RaftNonVoter
			}
			if i < c.dead {
				failed.FailedVoters = append(failed.FailedVoters, &srv.Server)
			}
			st.Servers[srv.Server.ID] = srv
		}
		got := new(promoter).FilterFailedServerRemovals(nil, st, failed)
		if (len(got.FailedVoters) == c.dead) != c.goes {
			t.Errorf("%d voters, %d non-voters, %d dead: %d may go", c.voters, c.nonvoters, c.dead, len(got.FailedVoters))
		}
	}
}

// TestPlansAndDeregistrations: between a plan and its command a node may go, or come
// back as another. A failure brings nothing back, and a living node comes back whole.
func TestPlansAndDeregistrations(t *testing.T) {
	s := planner()
	alive := client("n", 2, "10.0.0.2", api.MemberAlive)
	for name, between := range map[string]state.Command{
		"deregistered": &state.Deregister{Node: "n"},
		"another's": &state.Register{Node: &api.Node{ID: uuid(3), Node: "n", Address: "10.0.0.3"},
			Checks: []*api.HealthCheck{serfHealth("n", api.HealthPassing, api.SerfAliveOutput)}},
	} {
		c := newCatalog(t)
		c.apply(s.planAlive(c.store.Snapshot(), alive)...)
		plan := planFailed(c.store.Snapshot(), "n", uuid(2))
		if len(plan) != 1 {
			t.Fatalf("plan %v", plan)
		}
		c.apply(&state.Deregister{Node: "n"}, between)
		c.apply(plan...)
		have := lookUp(c.store.Snapshot(), "n")
		if name == "deregistered" && have.node != nil {
			t.Errorf("a node that was deregistered is back: %+v %+v", have.node, have.health)
		}
		if name != "deregistered" && (have.health == nil || have.health.Status != api.HealthPassing) {
			t.Errorf("another agent's node turned: %+v", have.health)
		}
	}
	c := newCatalog(t)
	c.apply(s.planAlive(c.store.Snapshot(), alive)...)
	c.apply(planFailed(c.store.Snapshot(), "n", uuid(2))...)
	if h := lookUp(c.store.Snapshot(), "n").health; h == nil || h.Status != api.HealthCritical || h.Output != api.SerfFailedOutput {
		t.Fatalf("a node that failed: %+v", h)
	}
	back := s.planAlive(c.store.Snapshot(), alive)
	c.apply(&state.Deregister{Node: "n"})
	c.apply(back...)
	if n := lookUp(c.store.Snapshot(), "n").node; n == nil || n.Address != "10.0.0.2" || n.ID != uuid(2) {
		t.Errorf("a living node that was deregistered: %+v", n)
	}
}
