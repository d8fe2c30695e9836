package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// The founders' id is in the state of all of them, and in their tags.
func TestClusterGetsItsID(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	leaderOf(t, all)
	id := func(ts *testServer) string { return ts.Views().Snapshot().ClusterID() }
	for _, ts := range all {
		until(t, ts.name+" has an id", func() bool { return id(ts) != "" && id(ts) == ts.cfg.Identity.Confirmed() && id(ts) == id(all[0]) })
		until(t, "all say so", func() bool {
			for _, other := range all {
				if srv, ok := ts.pool.ServerByID(other.cfg.NodeID); !ok || srv.Cluster() != id(ts) {
					return false
				}
			}
			return true
		})
	}
	until(t, "each has met the other two", func() bool {
		for _, ts := range all {
			for _, other := range others(all, ts) {
				h := other.cfg.Identity.Hello("")
				if !ts.cfg.Identity.Knows(h.ID, h.Start, h.Run()) {
					return false
				}
			}
		}
		return true
	})
}

// foundedBefore is a pool in which one server is of a version without cluster ids, as
// long as that is so.
type foundedBefore struct {
	Pool
	level string
}

func (p foundedBefore) Members() (all []api.Member) {
	for _, m := range p.Pool.Members() {
		tags := map[string]string{}
		for k, v := range m.Tags {
			tags[k] = v
		}
		tags["level"] = p.level
		m.Tags = tags
		all = append(all, m)
	}
	return all
}

// A cluster that was founded by servers without cluster ids gets one once all know them.
func TestOldClusterGetsAnID(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	old := startServer(t, testOptions{name: "s1", dir: dir, expect: 1, edit: func(c *Config) { c.Pool = foundedBefore{c.Pool, "3"} }})
	put(t, leaderOf(t, []*testServer{old}), "a", "1")
	if id := old.Views().Snapshot().ClusterID(); id != "" {
		t.Errorf("with servers that cannot read it, the id %s was written", id)
	}
	old.stop()
	now := startServer(t, testOptions{name: "s1", dir: dir, expect: 1})
	leaderOf(t, []*testServer{now})
	until(t, "it has an id", func() bool { return now.Views().Snapshot().ClusterID() != "" })
	if now.get("a") != "1" {
		t.Error("its data is gone")
	}
}

// The state of one cluster on a server of another ends that server.
func TestStateOfAnotherCluster(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	ts := startServer(t, testOptions{name: "s1", dir: dir, expect: 1})
	leader := leaderOf(t, []*testServer{ts})
	until(t, "it has an id", func() bool { return leader.Views().Snapshot().ClusterID() != "" })
	ts.stop()
	id, err := clusterid.Open("", ts.cfg.NodeID)
	if err == nil {
		err = id.Join("another one")
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	startServer(t, testOptions{name: "s1", dir: dir, expect: 1, edit: func(c *Config) { c.Identity = id }, run: endedInto(ended)})
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "belongs to cluster another one") {
		t.Errorf("it ended with %v", err)
	}
}

// Servers of other clusters are no business of the leader, even if the pool shows them.
func TestForeignServersAreNotAdded(t *testing.T) {
	id := inMemory(t, uuid(1))
	if err := id.Join("ours"); err != nil {
		t.Fatal(err)
	}
	members := []api.Member{
		server("s2", 2, "10.0.0.2", api.MemberAlive, gossip.TagCluster, "ours"),
		server("s3", 3, "10.0.0.3", api.MemberAlive, gossip.TagCluster, "theirs", gossip.TagBoot, "1"),
		server("s4", 4, "10.0.0.4", api.MemberAlive),
	}
	s := New(Config{NodeName: "s1", NodeID: uuid(1), Expect: 3, Identity: id, Pool: fixedPool{members: members}, Logger: logx.Discard()})
	for i, want := range []bool{false, true, false} {
		if got := s.isForeign(members[i]); got != want {
			t.Errorf("%s is foreign: %v", members[i].Name, got)
		}
	}
	known := autopilotDelegate{s: s}.KnownServers()
	if len(known) != 2 {
		t.Errorf("autopilot sees %v", known)
	}
}

// poolOf is a pool of a cluster.
type poolOf struct {
	fixedPool
	cluster string
}

func (p poolOf) Cluster() string { return p.cluster }

// Two servers with one id: the one that gossip does not show is refused.
func TestJudge(t *testing.T) {
	members := []api.Member{server("s2", 2, "10.0.0.2", api.MemberAlive), server("s3", 3, "10.0.0.3", api.MemberFailed)}
	id := inMemory(t, uuid(1))
	s := New(Config{NodeName: "s1", NodeID: uuid(1), Identity: id, Pool: poolOf{fixedPool{members: members}, "ours"}, Logger: logx.Discard()})
	addr := func(i int) string { srv, _ := gossip.ServerOf(members[i]); return srv.Addr }
	for what, tt := range map[string]struct {
		h  clusterid.Hello
		ok bool
	}{
		"where it lives":            {clusterid.Hello{ID: uuid(2), Address: addr(0)}, true},
		"elsewhere":                 {clusterid.Hello{ID: uuid(2), Address: "10.0.0.9:8300"}, false},
		"after a failure elsewhere": {clusterid.Hello{ID: uuid(3), Address: "10.0.0.9:8300"}, true},
		"nobody knows it":           {clusterid.Hello{ID: uuid(4), Address: "10.0.0.9:8300"}, true},
		"a leader of another pool":  {clusterid.Hello{ID: uuid(4), Cluster: "theirs"}, false},
		"a leader of this pool":     {clusterid.Hello{ID: uuid(4), Cluster: "ours"}, true},
		"itself":                    {id.Hello("10.0.0.1:8300"), true},
		"its double":                {inMemory(t, uuid(1)).Hello("10.0.0.1:8300"), false},
	} {
		if err := s.checkPeer(tt.h); (err == nil) != tt.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestJudgeVotes(t *testing.T) {
	no := func(index uint64, voters ...string) voterAnswer { return voterAnswer{Index: index, Voters: voters} }
	yes := func(index uint64, voters ...string) voterAnswer {
		return voterAnswer{Voter: true, Index: index, Voters: voters}
	}
	proven := no(9, "a", "b", "c")
	proven.Proof = true
	for what, tt := range map[string]struct {
		known   []string
		answers map[string]voterAnswer
		votes   bool
		unknown bool
	}{
		"nobody is known":                    {unknown: true},
		"nobody answers":                     {known: []string{"a", "b"}, unknown: true},
		"one that may lag says no":           {known: []string{"a", "b", "c"}, answers: map[string]voterAnswer{"a": no(1, "a", "b", "c")}, unknown: true},
		"a majority says no":                 {answers: map[string]voterAnswer{"a": no(5, "a", "b", "c"), "b": no(5, "a", "b", "c")}},
		"a proven leader says no":            {answers: map[string]voterAnswer{"a": proven}},
		"one yes against a proven no":        {answers: map[string]voterAnswer{"a": proven, "b": yes(3, "b", "x")}, votes: true},
		"one yes alone":                      {answers: map[string]voterAnswer{"b": yes(3, "b", "x")}, votes: true},
		"a majority of an old configuration": {answers: map[string]voterAnswer{"a": no(1, "a", "b", "c"), "b": no(7, "a", "b", "c", "d", "e")}, unknown: true},
		"those that were removed":            {answers: map[string]voterAnswer{"y": no(3, "y", "z"), "a": no(9, "a", "b", "c")}, unknown: true},
		"earlier versions, a majority":       {known: []string{"a", "b", "c"}, answers: map[string]voterAnswer{"a": {}, "b": {}}},
		"earlier versions, one":              {known: []string{"a", "b", "c"}, answers: map[string]voterAnswer{"a": {}}, unknown: true},
	} {
		votes, err := decideVote(tt.known, tt.answers)
		if votes != tt.votes || (err != nil) != tt.unknown {
			t.Errorf("%s: %v, %v", what, votes, err)
		}
	}
}

// A lone founder waits until those that it was told to join were tried.
func TestFounderWaitsForTheJoins(t *testing.T) {
	checkLeaks(t)
	joined := make(chan struct{})
	ts := startServer(t, testOptions{name: "s1", dir: t.TempDir(), expect: 1, edit: func(c *Config) { c.Joined = joined }})
	until(t, "raft runs", func() bool { return ts.started.Load() })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if ts.awaitJoined(over) {
		t.Error("it does not wait")
	}
	if has, err := ts.node.HasState(); has || err != nil {
		t.Errorf("it has founded a cluster at once: %v, %v", has, err)
	}
	close(joined)
	leaderOf(t, []*testServer{ts})
}

// A leader asks who a server is before it adds it: the pool may not know yet.
func TestLeaderAsksWhoItAdds(t *testing.T) {
	checkLeaks(t)
	one := startServer(t, testOptions{name: "s1", expect: 1})
	two := startServer(t, testOptions{name: "s2", expect: 1})
	all := []*testServer{one, two}
	for _, ts := range all {
		leaderOf(t, []*testServer{ts})
	}
	srv := gossip.Server{ID: two.cfg.NodeID, Name: "s2", Addr: two.cfg.Address, Level: state.Level}
	if err := one.verifyNewServer(t.Context(), srv); !errors.Is(err, clusterid.ErrForeign) {
		t.Errorf("a server of another cluster: %v", err)
	}
	srv.ID = uuid(9)
	if err := one.verifyNewServer(t.Context(), srv); err == nil {
		t.Error("a server that is not there")
	}
}
