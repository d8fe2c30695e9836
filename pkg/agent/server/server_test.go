package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

func TestClusterFromBeginningToEnd(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	leader := leaderOf(t, all)
	put(t, leader, "a", "1")

	for _, ts := range all {
		ts.checkRegistered(all)
		until(t, ts.name+" has the key", func() bool { return ts.get("a") == "1" })
		until(t, ts.name+" reports the leader", func() bool { return ts.StatusLeader() == leader.cfg.Address })
		if got := ts.Peers(); len(got) != 3 {
			t.Errorf("%s knows the peers %v", ts.name, got)
		}
		l, err := ts.AwaitLeader(t.Context())
		if err != nil || l.Addr != leader.cfg.Address || l.Self != (ts == leader) {
			t.Errorf("%s: AwaitLeader: %+v, %v", ts.name, l, err)
		}
		if err := ts.AwaitStale(t.Context()); err != nil {
			t.Errorf("%s: AwaitStale: %v", ts.name, err)
		}
	}
	if err := leader.VerifyLeader(t.Context()); err != nil {
		t.Errorf("VerifyLeader on the leader: %v", err)
	}
	follower := others(all, leader)[0]
	checkNotLeader(t, follower)
	checkConfiguration(t, follower, leader)

	// A hard stop of the leader: the others go on, and see the node critical.
	leader.kill()
	rest := others(all, leader)
	next := leaderOf(t, rest)
	until(t, "the dead server's node is critical", func() bool { return next.health(leader.name) == api.HealthCritical })
	put(t, next, "b", "2")
	// To go on with two instead of three would gain nothing.
	time.Sleep(2 * next.cfg.Autopilot.ReconcileInterval)
	if got := next.Peers(); len(got) != 3 {
		t.Errorf("a dead server of three was removed: %v", got)
	}

	// It comes back with what it had, and catches up.
	back := startServer(t, testOptions{name: leader.name, dir: leader.dir, expect: 3, addr: leader.ln.Addr().String()})
	back.join(next)
	until(t, "the server is back and passing", func() bool { return next.health(back.name) == api.HealthPassing })
	until(t, "it has caught up", func() bool { return back.get("b") == "2" })
}

// checkRegistered wants everybody in the catalog, passing, with the service.
func (ts *testServer) checkRegistered(all []*testServer) {
	ts.t.Helper()
	for _, other := range all {
		until(ts.t, ts.name+" has "+other.name+" in its catalog", func() bool { return ts.health(other.name) == api.HealthPassing })
		r := lookUp(ts.Views().Snapshot(), other.name)
		if r.node.Address != "127.0.0.1" || r.node.ID != other.cfg.NodeID || r.node.TaggedAddresses["lan"] != "127.0.0.1" || r.node.Datacenter != "dc1" {
			ts.t.Errorf("node %s: %+v", other.name, r.node)
		}
		if r.service == nil || r.service.ID != "consul" || r.service.Meta["version"] != "1.2.3" ||
			!strings.HasSuffix(other.cfg.Address, ":"+portText(r.service.Port)) {
			ts.t.Errorf("service of %s: %+v", other.name, r.service)
		}
		if r.health.Name != api.SerfHealthName || r.health.Output != api.SerfAliveOutput {
			ts.t.Errorf("serfHealth of %s: %+v", other.name, r.health)
		}
	}
}

func checkNotLeader(t *testing.T, follower *testServer) {
	t.Helper()
	_, err := follower.Propose(t.Context(), &state.KV{Op: state.KVSet, Entry: api.KVPair{Key: "x"}})
	if !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("Propose on a follower: %v", err)
	}
	if err := follower.VerifyLeader(t.Context()); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("VerifyLeader on a follower: %v", err)
	}
	if !follower.KnownLeader() || follower.LastContact() > 10*time.Second {
		t.Errorf("follower: known leader %v, last contact %v", follower.KnownLeader(), follower.LastContact())
	}
}

func checkConfiguration(t *testing.T, follower, leader *testServer) {
	t.Helper()
	conf := follower.RaftConfiguration()
	if len(conf.Servers) != 3 || conf.Index == 0 {
		t.Fatalf("raft configuration: %+v", conf)
	}
	for _, srv := range conf.Servers {
		if !srv.Voter || srv.Leader != (srv.Node == leader.name) || srv.ProtocolVersion != "3" {
			t.Errorf("raft configuration has %+v, leader is %s", srv, leader.name)
		}
	}
	stats := leader.Stats()
	if stats["consul"]["leader"] != "true" || stats["raft"]["state"] != "Leader" {
		t.Errorf("stats of the leader: %v", stats)
	}
}

func TestLeave(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	leader := leaderOf(t, all)
	leader.checkRegistered(all)

	// The leader leaves: somebody else leads at once, and the node is gone.
	began := time.Now()
	if err := leader.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	leader.stop()
	rest := others(all, leader)
	next := leaderOf(t, rest)
	until(t, "the node that left is gone", func() bool { return lookUp(next.Views().Snapshot(), leader.name).node == nil })
	until(t, "the server that left is out of the configuration", func() bool { return len(next.Peers()) == 2 })
	if took > 5*time.Second {
		t.Errorf("Leave took %v", took)
	}
	put(t, next, "a", "1")

	// Of two, one leaves: the last one goes on alone.
	last := others(rest, next)[0]
	if err := next.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	next.stop()
	alone := leaderOf(t, []*testServer{last})
	until(t, "the last server is alone", func() bool { return len(alone.Peers()) == 1 })
	put(t, alone, "b", "2")
}

func TestRestartOfAll(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	leader := leaderOf(t, all)
	leader.checkRegistered(all)
	put(t, leader, "kept", "yes")
	for _, key := range []string{"x", "y", "last"} { // a log knows of an entry that it is committed when later ones come
		put(t, leader, key, "yes")
	}
	for _, ts := range all {
		until(t, "everybody has the keys", func() bool { return ts.get("last") == "yes" })
	}
	inParallel(all, (*testServer).stop)

	// One alone: what was committed may be read stale, but there is no leader, and
	// nobody is told that there is nothing.
	first := startServer(t, testOptions{name: all[0].name, dir: all[0].dir, expect: 3, addr: all[0].ln.Addr().String(),
		edit: func(c *Config) { c.HoldTimeout = 300 * time.Millisecond }})
	if _, err := first.AwaitLeader(t.Context()); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("AwaitLeader without a majority: %v", err)
	}
	if got := first.StatusLeader(); got != "" {
		t.Errorf("status/leader without a majority: %q", got)
	}
	until(t, "the stale state is back", func() bool { return first.AwaitStale(t.Context()) == nil })
	if got := first.get("kept"); got != "yes" {
		t.Errorf("the restarted server reads %q", got)
	}

	// The second one finds it by its peers file; together they are a majority.
	second := startServer(t, testOptions{name: all[1].name, dir: all[1].dir, expect: 3, addr: all[1].ln.Addr().String()})
	second.join(first)
	again := leaderOf(t, []*testServer{first, second})
	if got := again.get("kept"); got != "yes" {
		t.Errorf("the new leader, ready, reads %q", got)
	}
	put(t, again, "more", "yes")
}

func TestFourthServerIsPromoted(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	leader := leaderOf(t, all)
	leader.checkRegistered(all)
	put(t, leader, "a", "1")
	// Autopilot takes everybody for stable while it has run for less than the
	// stabilization time.
	until(t, "autopilot is settled", func() bool {
		p := leader.pilot.Load()
		return p != nil && p.Healthy && p.ServerStabilizationTime(&pilotConf) != 0
	})

	fourth := startServer(t, testOptions{name: "s4", dir: t.TempDir()})
	fourth.join(leader)
	until(t, "the fourth is a non-voter", func() bool { return voterState(leader, "s4") == "non-voter" })
	until(t, "the fourth is a voter", func() bool { return voterState(leader, "s4") == "voter" })
	until(t, "the fourth has everything", func() bool { return fourth.get("a") == "1" })
	if err := fourth.AwaitStale(t.Context()); err != nil {
		t.Errorf("AwaitStale on the fourth: %v", err)
	}

	// With four, three are a majority; without a dead one, two of three are.
	victim := others(all, leader)[0]
	victim.kill()
	until(t, "the dead one of four is removed", func() bool { return voterState(leader, victim.name) == "" && len(leader.Peers()) == 3 })
	put(t, leader, "b", "2")
}

func TestSingleServer(t *testing.T) {
	checkLeaks(t)
	one := startServer(t, testOptions{name: "one", expect: 1})
	l, err := one.AwaitLeader(t.Context())
	if err != nil || !l.Self || l.Addr != one.cfg.Address {
		t.Fatalf("AwaitLeader: %+v, %v", l, err)
	}
	if got := one.StatusLeader(); got != one.cfg.Address {
		t.Errorf("ready, but status/leader is %q", got)
	}
	put(t, one, "a", "1")
	if err := one.VerifyLeader(t.Context()); err != nil {
		t.Errorf("VerifyLeader: %v", err)
	}
	bad := &state.Register{Node: &api.Node{}}
	if _, err := one.Propose(t.Context(), bad); err == nil || err.Error() != "Must provide node" {
		t.Errorf("a command whose result is an error: %v", err)
	}
	if err := one.Leave(t.Context()); err != nil {
		t.Errorf("Leave alone: %v", err)
	}
}

// TestClientComesAndGoes follows a client agent through the pool into the
// catalog and out of it.
func TestClientComesAndGoes(t *testing.T) {
	checkLeaks(t)
	one := startServer(t, testOptions{name: "one", expect: 1})
	leaderOf(t, []*testServer{one})
	pool := gossip.New(gossip.Config{NodeName: "c1", NodeID: uuid(7), Datacenter: "dc1", BindAddr: "127.0.0.1",
		ReconnectTimeout: time.Hour, MaxMembers: gossip.MaxMembers, Timing: testTiming, Logger: testLogger("c1")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- pool.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	if err := pool.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Join([]string{one.gossipAddr()}); err != nil {
		t.Fatal(err)
	}
	until(t, "the client is registered", func() bool { return one.health("c1") == api.HealthPassing })
	if r := lookUp(one.Views().Snapshot(), "c1"); r.service != nil || r.node.ID != uuid(7) {
		t.Errorf("the client is registered as %+v with %+v", r.node, r.service)
	}
	index := one.Views().Snapshot().Index()
	one.MembersChanged() // nothing has: nothing is proposed
	if err := pool.Leave(); err != nil {
		t.Fatal(err)
	}
	until(t, "the client is deregistered", func() bool { return lookUp(one.Views().Snapshot(), "c1").node == nil })
	if got := one.Views().Snapshot().Index(); got != index+1 {
		t.Errorf("it took %d writes, want one", got-index)
	}
}

func TestBeforeAndAfterRun(t *testing.T) {
	s := New(Config{NodeName: "x", NodeID: "x", HoldTimeout: 50 * time.Millisecond, Pool: noPool{}, Logger: testLogger("x")})
	if _, err := s.AwaitLeader(t.Context()); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("AwaitLeader: %v", err)
	}
	if err := s.AwaitStale(t.Context()); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("AwaitStale: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.AwaitLeader(ctx); err == nil || err.Error() != context.Canceled.Error() {
		t.Errorf("AwaitLeader of a client that went away: %v", err)
	}
	if _, err := s.Propose(t.Context(), &state.KV{Op: state.KVSet}); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("Propose: %v", err)
	}
	if s.StatusLeader() != "" || s.KnownLeader() || len(s.Peers()) != 0 || len(s.RaftConfiguration().Servers) != 0 {
		t.Error("a server that does not run knows a cluster")
	}
}

// TestStaleAfterQuietLeaderChange: the newest committed entry is the one by which
// the last leader began, which the state machine never gets. A server that
// restarts alone does not wait for it.
func TestStaleAfterQuietLeaderChange(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	first := leaderOf(t, all)
	first.checkRegistered(all)
	if err := first.node.TransferLeadership(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := leaderOf(t, others(all, first))
	until(t, "the new leader's own entry is committed", func() bool { return commitIndex(second) > second.node.AppliedIndex() })
	inParallel(all, (*testServer).kill)
	alone := startServer(t, testOptions{name: second.name, dir: second.dir, expect: 3, addr: second.ln.Addr().String(),
		edit: func(c *Config) { c.HoldTimeout = 2 * time.Second }})
	if err := alone.AwaitStale(t.Context()); err != nil {
		t.Errorf("AwaitStale: %v", err)
	}
	if got := alone.health(first.name); got != api.HealthPassing {
		t.Errorf("it reads that %s is %q", first.name, got)
	}
}

// A leadership that was lost and won again before anybody was told is another one:
// what others acknowledged in between may not be applied here yet.
func TestReadyIsOfATerm(t *testing.T) {
	checkLeaks(t)
	ts := startServer(t, testOptions{name: "s1", expect: 1, edit: func(c *Config) { c.HoldTimeout = 50 * time.Millisecond }})
	leader := leaderOf(t, []*testServer{ts})
	now := leader.ready.Load()
	if !leader.Leads() || now.term != leader.node.Term() {
		t.Fatalf("leads: %v, ready in term %d of %d", leader.Leads(), now.term, leader.node.Term())
	}
	before := &leadership{ctx: t.Context(), end: func() {}, term: now.term - 1} // whose end nobody has told
	leader.ready.Store(before)
	if leader.Leads() {
		t.Error("it answers as the leader of an earlier term")
	}
	if l, err := leader.AwaitLeader(t.Context()); err == nil {
		t.Errorf("it is found as the leader: %+v", l)
	}
	if err := leader.VerifyLeader(t.Context()); err == nil {
		t.Error("it answers consistent reads")
	}
	if r, _ := leader.ReadIndex(t.Context(), nil); r != nil {
		t.Errorf("it tells followers how far it is: %+v", r)
	}
	leader.ready.Store(now)
	if _, err := leader.AwaitLeader(t.Context()); err != nil || !leader.Leads() {
		t.Errorf("and in its own: %v", err)
	}
}
