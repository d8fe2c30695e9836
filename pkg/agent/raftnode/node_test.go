package raftnode

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

func TestThreeServers(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	leader := c.leader(all)

	result, err := leader.Propose(t.Context(), Command{Data: []byte("one")})
	if result != "1:one" || err != nil {
		t.Fatalf("Propose: %v, %v", result, err)
	}
	for _, m := range all {
		if m == leader {
			continue
		}
		_, err := m.Propose(t.Context(), Command{Data: []byte("no")})
		if !errors.Is(err, api.ErrNoLeader) || errors.Is(err, api.ErrUnknownWrite) {
			t.Errorf("a follower's Propose: %v", err)
		}
		if err := m.VerifyLeader(t.Context()); !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("a follower's VerifyLeader: %v", err)
		}
		if d := m.LastContact(); d < 0 || d > maxWait {
			t.Errorf("a follower's LastContact: %v", d)
		}
	}
	if err := leader.VerifyLeader(t.Context()); err != nil {
		t.Error(err)
	}
	if leader.LastContact() != 0 {
		t.Errorf("the leader's LastContact: %v", leader.LastContact())
	}
	c.wantLines(all, "one")
	servers, index, err := leader.Configuration()
	if len(servers) != 3 || index != 1 || err != nil {
		t.Errorf("Configuration: %v, index %d, %v", servers, index, err)
	}
	if got := leader.leaderships.list(); !slices.Equal(got, []bool{true}) {
		t.Errorf("OnLeader heard %v", got)
	}
}

// TestStateSurvivesRestarts: one server, then all, each on a new address.
func TestStateSurvivesRestarts(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	c.leader(all)
	c.write(all, "one")
	c.wantLines(all, "one")

	restart := func(i int) {
		if err := all[i].stop(); err != nil {
			t.Fatal(err)
		}
		all[i] = c.start(all[i].id, all[i].dir)
	}
	restart(0)
	c.write(all, "two")
	c.wantLines(all, "one", "two")

	for i := range all {
		if err := all[i].stop(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all {
		all[i] = c.start(all[i].id, all[i].dir)
		if has, err := all[i].HasState(); !has || err != nil {
			t.Errorf("HasState after a restart: %t, %v", has, err)
		}
		if err := all[i].Bootstrap(voters(all)); !errors.Is(err, raft.ErrCantBootstrap) {
			t.Errorf("Bootstrap after a restart: %v", err)
		}
	}
	c.leader(all)
	c.write(all, "three")
	c.wantLines(all, "one", "two", "three")
}

// TestCommittedIsAppliedWithoutALeader: law 5. What was known to be committed is
// there when Started returns, though nobody else is up and there is no quorum.
func TestCommittedIsAppliedWithoutALeader(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	leader := c.leader(all)
	var want []string
	for i := range 700 { // several replay batches
		want = append(want, strings.Repeat("x", i%7)+"line")
		c.write(all, want[i])
	}
	c.wantLines(all, want...)
	applied := leader.AppliedIndex()
	for _, m := range all {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}

	alone := c.start(leader.id, leader.dir)
	got := alone.tape.Lines()
	if !slices.Equal(got, want) {
		t.Errorf("%d lines before there is a leader, want %d", len(got), len(want))
	}
	if at := alone.CommitAtStart(); at < applied || alone.AppliedIndex() < applied {
		t.Errorf("commit index at start %d, applied %d, before the stop %d", at, alone.AppliedIndex(), applied)
	}
	if id, _ := alone.Leader(); id != "" {
		t.Errorf("leader without a quorum: %s", id)
	}

	// Its peers come back: nothing is applied twice.
	members := []*member{alone}
	for _, m := range all {
		if m.id != alone.id {
			members = append(members, c.start(m.id, m.dir))
		}
	}
	c.leader(members)
	c.write(members, "last")
	c.wantLines(members, append(want, "last")...)
}

// TestGracefulStopHandsOver: the next leader starts its election because it was told to, and
// not because anybody's timer ran out.
func TestGracefulStopHandsOver(t *testing.T) {
	const timeout = "heartbeat timeout reached"
	c := newCluster(t)
	all := c.found(3)
	leader := c.leader(all)
	rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == leader })
	before := 0
	for _, m := range rest {
		before += strings.Count(m.said.String(), timeout)
	}

	if err := leader.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(leader.said.String(), "could not hand over") {
		t.Error("the transfer failed")
	}
	until(t, "another one leads", func() bool { return rest[0].IsLeader() || rest[1].IsLeader() })
	after := 0
	for _, m := range rest {
		after += strings.Count(m.said.String(), timeout)
	}
	if after != before {
		t.Error("an election timer ran out")
	}
	if got := leader.leaderships.list(); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("OnLeader of the old leader heard %v", got)
	}
	c.write(rest, "after")
	c.wantLines(rest, "after")
}

// TestLoneVoterLeadsAtOnce: its timer alone would take one to two seconds. The
// machine may be slow, so one quick election in a few shows it.
func TestLoneVoterLeadsAtOnce(t *testing.T) {
	quick := func(t *testing.T, try func(t *testing.T) time.Duration) {
		t.Helper()
		var took []time.Duration
		for range 4 {
			took = append(took, try(t))
			if took[len(took)-1] < 900*time.Millisecond {
				return
			}
		}
		t.Errorf("elections took %v", took)
	}
	t.Run("bootstrap", func(t *testing.T) {
		c := newCluster(t)
		quick(t, func(t *testing.T) time.Duration {
			m := c.start("a", "")
			begun := time.Now()
			if err := m.Bootstrap(voters([]*member{m})); err != nil {
				t.Fatal(err)
			}
			c.leader([]*member{m})
			return time.Since(begun)
		})
	})
	t.Run("restart", func(t *testing.T) {
		c := newCluster(t)
		m := c.start("a", t.TempDir())
		if err := m.Bootstrap(voters([]*member{m})); err != nil {
			t.Fatal(err)
		}
		c.write([]*member{m}, "one")
		quick(t, func(t *testing.T) time.Duration {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			m = c.start("a", m.dir)
			c.leader([]*member{m})
			return time.Since(begun)
		})
		c.wantLines([]*member{m}, "one")
	})
}

func TestMembership(t *testing.T) {
	c := newCluster(t)
	a := c.start("a", "")
	all := []*member{a}
	if err := a.Bootstrap(voters(all)); err != nil {
		t.Fatal(err)
	}
	c.leader(all)
	c.write(all, "one")

	b := c.start("b", "")
	if err := addNonvoter(a.Node, b.id, b.addr); err != nil {
		t.Fatal(err)
	}
	all = append(all, b)
	c.wantLines(all, "one")
	if got := suffrage(t, a, "b"); got != raft.Nonvoter {
		t.Errorf("b is a %v", got)
	}
	if err := addVoter(b.Node, b.id, b.addr); !errors.Is(err, raft.ErrNotLeader) {
		t.Errorf("a follower changes the configuration: %v", err)
	}
	if err := addVoter(a.Node, b.id, b.addr); err != nil {
		t.Fatal(err)
	}
	if got := suffrage(t, a, "b"); got != raft.Voter {
		t.Errorf("b is a %v", got)
	}
	if err := a.TransferLeadership(t.Context()); err != nil {
		t.Fatal(err)
	}
	if leader := c.leader(all); leader != b {
		t.Errorf("%s leads", leader.id)
	}
	if err := demoteVoter(b.Node, "a"); err != nil {
		t.Fatal(err)
	}
	if err := removeServer(b.Node, "a"); err != nil {
		t.Fatal(err)
	}
	c.write([]*member{b}, "two")
	c.wantLines([]*member{b}, "one", "two")

	// Who was removed still runs, and may come back.
	if err := addNonvoter(b.Node, a.id, a.addr); err != nil {
		t.Fatal(err)
	}
	c.wantLines(all, "one", "two")
}

func suffrage(t *testing.T, m *member, id string) raft.ServerSuffrage {
	t.Helper()
	servers, _, err := m.Configuration()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if s.ID == raft.ServerID(id) {
			return s.Suffrage
		}
	}
	return -1
}

// TestLostQuorum: the entry is neither applied nor surely lost, and the caller
// is told so; nobody verifies a leadership any more.
func TestLostQuorum(t *testing.T) {
	c := newCluster(t)
	all := c.found(3)
	leader := c.leader(all)
	for _, m := range all {
		if m != leader {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := leader.Propose(t.Context(), Command{Data: []byte("lost?")})
	switch {
	case errors.Is(err, api.ErrNoLeader): // it had stepped down already
	case !errors.Is(err, api.ErrUnknownWrite) || !strings.HasPrefix(err.Error(), api.TextUnknownWrite):
		t.Errorf("Propose without a quorum: %v", err)
	}
	if err := leader.VerifyLeader(t.Context()); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("VerifyLeader without a quorum: %v", err)
	}
	if len(leader.tape.Lines()) != 0 {
		t.Error("applied without a quorum")
	}
}

// TestStopDoesNotWaitForASilentPeer: raft would, for as long as rpcTimeout.
func TestStopDoesNotWaitForASilentPeer(t *testing.T) {
	c := newCluster(t)
	m, stopPort := c.prepare("a", "")
	defer stopPort()
	asked := make(chan struct{}, 1)
	m.cfg.Dial = func(context.Context, string) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		go func() {
			if _, err := far.Read(make([]byte, 1)); err == nil { // and never an answer
				select {
				case asked <- struct{}{}:
				default:
				}
			}
		}()
		return near, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	if err := m.Started(t.Context()); err != nil {
		t.Fatal(err)
	}
	peers := append(voters([]*member{m}), raft.Server{ID: "b", Address: "127.0.0.1:1"})
	if err := m.Bootstrap(peers); err != nil {
		t.Fatal(err)
	}
	<-asked
	begun := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > rpcTimeout/2 {
		t.Errorf("the stop took %v", took)
	}
	if strings.Contains(m.said.String(), "did not let go") {
		t.Error("connections were left behind")
	}
}

// TestProposeHonoursItsContext: the outcome is unknown then.
func TestProposeHonoursItsContext(t *testing.T) {
	c := newCluster(t)
	all := c.found(2)
	leader := c.leader(all)
	for _, m := range all {
		if m != leader {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := leader.Propose(ctx, Command{Data: []byte("x")})
	if !errors.Is(err, api.ErrNoLeader) && !(errors.Is(err, api.ErrUnknownWrite) && errors.Is(err, context.DeadlineExceeded)) {
		t.Errorf("Propose: %v", err)
	}
}

func TestNotRunning(t *testing.T) {
	c := newCluster(t)
	m, stopPort := c.prepare("a", "")
	defer stopPort()
	check := func(when string) {
		t.Helper()
		ctx := t.Context()
		_, propose := m.Propose(ctx, Command{Data: nil})
		_, _, configuration := m.Configuration()
		_, hasState := m.HasState()
		_, raw := m.Raft()
		for name, err := range map[string]error{
			"Propose": propose, "Configuration": configuration, "HasState": hasState, "Raft": raw,
			"Barrier": m.Barrier(ctx), "VerifyLeader": m.VerifyLeader(ctx), "Bootstrap": m.Bootstrap(nil),
			"AddVoter": addVoter(m.Node, "b", "x"), "TransferLeadership": m.TransferLeadership(ctx),
			"Snapshot": takeSnapshot(m.Node),
		} {
			if !errors.Is(err, ErrNotRunning) {
				t.Errorf("%s %s: %v", name, when, err)
			}
		}
		if !errors.Is(propose, api.ErrNoLeader) {
			t.Errorf("Propose %s is not known to be unproposed: %v", when, propose)
		}
		id, addr := m.Leader()
		if id != "" || addr != "" || m.IsLeader() || m.LastIndex()+commitIndex(m.Node)+m.AppliedIndex()+m.CommitAtStart() != 0 ||
			m.LastContact() >= 0 || len(m.Stats()) != 0 {
			t.Errorf("%s there is something to see", when)
		}
	}
	check("before Run")

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	if err := m.Started(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.Stats()["state"] != "Follower" {
		t.Errorf("stats: %v", m.Stats())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	check("after Run")
	if err := m.Started(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Started after Run: %v", err)
	}
	if err := m.Run(t.Context()); err == nil {
		t.Error("it ran a second time")
	}
}
