package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/logx"
)

// watched is what one failover probe sees, in virtual time.
type watched struct {
	failoverProbe
	now       leaderState
	heard     func() time.Time // instead of now.heard
	ports     map[string]func() bool
	says      map[string]ProbeReport // by voter; who is not there does not answer
	probes    atomic.Int32
	campaigns atomic.Int32
}

// dead is a follower a of three, whose leader c has just died; b confirms it.
func dead() *watched {
	w := &watched{
		now: leaderState{
			term: 7, leader: "c", addrs: []string{"c1"}, heard: time.Now(), voters: 3,
			others: []raft.Server{{ID: "b"}},
		},
		ports: map[string]func() bool{"c1": func() bool { return true }},
		says:  map[string]ProbeReport{"b": {Refused: true, LastTerm: 7, Last: 9}},
	}
	w.failoverProbe = failoverProbe{
		id: "a", logger: logx.Discard(),
		observe: func() leaderState {
			now := w.now
			if w.heard != nil {
				now.heard = w.heard()
			}
			return now
		},
		logEnd:  func() ProbeReport { return ProbeReport{LastTerm: 7, Last: 9} },
		refused: func(_ context.Context, addr string) bool { w.probes.Add(1); return w.ports[addr]() },
		ask: func(_ context.Context, v raft.Server, leader string, term uint64) (ProbeReport, error) {
			if said, ok := w.says[string(v.ID)]; ok && leader == w.now.leader && term == w.now.term {
				return said, nil
			}
			return ProbeReport{}, errors.New("no answer")
		},
		campaign: func() error { w.campaigns.Add(1); return nil },
	}
	return w
}

// campaignedAfter runs the failover probe and gives when it started an election, -1 for never.
func (w *watched) campaignedAfter(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	at := time.Duration(-1)
	began := time.Now()
	w.failoverProbe.campaign = func() error {
		if w.campaigns.Add(1) == 1 {
			at = time.Since(began)
		}
		return nil
	}
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(done) }()
	time.Sleep(limit)
	close(done)
	<-ended
	if n := w.campaigns.Load(); n > 1 {
		t.Errorf("it started %d elections in one term", n)
	}
	return at
}

func TestSentinel(t *testing.T) {
	never := time.Duration(-1)
	for name, tt := range map[string]struct {
		world func(w *watched)
		want  time.Duration
	}{
		"a dead leader": {func(*watched) {}, silenceTime},
		"the other one knows more and goes first": {func(w *watched) {
			w.says["b"] = ProbeReport{Refused: true, LastTerm: 7, Last: 10}
		}, silenceTime + stagger},
		"the other one knows less": {func(w *watched) {
			w.says["b"] = ProbeReport{Refused: true, LastTerm: 6, Last: 100}
		}, silenceTime},
		"the later name waits": {func(w *watched) { w.id = "z" }, silenceTime + stagger},
		"it dies between two tries": {func(w *watched) {
			began := time.Now()
			w.ports["c1"] = func() bool { return time.Since(began) > 100*time.Millisecond }
		}, 3 * silenceTime},
		"a leader that is paused": {func(w *watched) { w.ports["c1"] = func() bool { return false } }, never},
		"a leader that speaks": {func(w *watched) {
			began := time.Now()
			w.heard = func() time.Time { return began.Add(time.Since(began).Truncate(50 * time.Millisecond)) }
		}, never},
		"a leader that speaks again while others are asked": {func(w *watched) {
			ask, began := w.ask, time.Now()
			w.ask = func(ctx context.Context, v raft.Server, leader string, term uint64) (ProbeReport, error) {
				w.heard = func() time.Time { return began.Add(time.Since(began).Truncate(50 * time.Millisecond)) }
				return ask(ctx, v, leader, term)
			}
		}, never},
		"a leader that is restarted before our turn": {func(w *watched) {
			w.says["b"] = ProbeReport{Refused: true, LastTerm: 8}
			began := time.Now()
			w.ports["c1"] = func() bool { return time.Since(began) < 150*time.Millisecond }
		}, never},
		"a leader that lives at another address": {func(w *watched) {
			w.now.addrs = []string{"c0", "c1"}
			w.ports["c0"] = func() bool { return false }
		}, never},
		"a leader that the other one reaches": {func(w *watched) { w.says["b"] = ProbeReport{LastTerm: 7} }, never},
		"nobody else answers":                 {func(w *watched) { w.says = nil }, never},
		"two voters":                          {func(w *watched) { w.now.voters, w.now.others = 2, nil }, never},
		"one other is no majority of five":    {func(w *watched) { w.now.voters = 5 }, never},
		"no address is known":                 {func(w *watched) { w.now.addrs = nil }, never},
		"this one leads, or may not vote":     {func(w *watched) { w.now.leader = "" }, never},
		"somebody else leads when our turn is": {func(w *watched) {
			w.id = "z"
			ask := w.ask
			w.ask = func(ctx context.Context, v raft.Server, leader string, term uint64) (ProbeReport, error) {
				said, err := ask(ctx, v, leader, term)
				w.now.term, w.now.leader = 8, ""
				return said, err
			}
		}, never},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := dead()
				tt.world(w)
				if got := w.campaignedAfter(t, 10*time.Second); got != tt.want {
					t.Errorf("it started an election after %v, want %v (-1ns: never)", got, tt.want)
				}
			})
		})
	}
}

// A silence costs a connection now and then, not a stream of them.
func TestSentinelTriesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := dead()
		w.ports["c1"] = func() bool { return false }
		w.campaignedAfter(t, 10*time.Second)
		if n := w.probes.Load(); n > 12 {
			t.Errorf("%d connections in a silence of ten seconds", n)
		}
	})
}

// TestPortRefused: only a port at which nobody listens refuses.
func TestPortRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // never accepts, like a process that is stopped
	if portRefused(t.Context(), ln.Addr().String()) {
		t.Error("a listener that does not accept refuses")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	if !portRefused(t.Context(), free.Addr().String()) {
		t.Error("a port at which nobody listens does not refuse")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if portRefused(ended, free.Addr().String()) {
		t.Error("an attempt that was given up counts as a refusal")
	}
	full := fullQueue(t)
	if portRefused(t.Context(), full) {
		t.Error("a port whose queue is full refuses")
	}
}

// fullQueue is a listener that has no room for one more connection.
func fullQueue(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this kernel takes any number of connections")
	return ""
}

// TestDeadLeaderIsSucceededAtOnce: real ports; the leader is cut off and its port
// closed, as by kill -9. The first successor comes long before the timers.
func TestDeadLeaderIsSucceededAtOnce(t *testing.T) {
	c := newCluster(t)
	c.confirm = true
	all := c.found(3)
	leader := c.leader(all)
	rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == leader })
	c.wantLines(rest)
	began := time.Now()
	leader.die()
	until(t, "another leads", func() bool { return rest[0].IsLeader() || rest[1].IsLeader() })
	if took := time.Since(began); took > 900*time.Millisecond { // the timers take a second at least
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(rest[0].said.String()+rest[1].said.String(), "the leader's port refuses connections") {
		t.Error("not by evidence")
	}
}

// TestLivingLeaderIsNotDeposed: its port refuses, as behind a firewall that rejects,
// or after its listener has been closed, and its connections live.
func TestLivingLeaderIsNotDeposed(t *testing.T) {
	c := newCluster(t)
	c.confirm = true
	all := c.found(3)
	leader := c.leader(all)
	c.write(all, "one")
	c.wantLines(all, "one")
	term := leader.current().raft.CurrentTerm()
	leader.deafen()
	if !portRefused(t.Context(), leader.addr) {
		t.Fatal("the port does not refuse")
	}
	before := leader.current().acks.sent.Load()
	until(t, "there were many silences between its messages", func() bool {
		deposed := slices.ContainsFunc(all, func(m *member) bool { return m.current().raft.CurrentTerm() != term })
		return deposed || leader.current().acks.sent.Load() > before+200
	})
	for _, m := range all {
		if now := m.current().raft.CurrentTerm(); now != term || strings.Contains(m.said.String(), "starting an election at once") {
			t.Errorf("%s is in term %d, the living leader's was %d", m.id, now, term)
		}
	}
	c.write(all, "two")
	leader.die() // and now its connections end, too
	rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == leader })
	until(t, "another leads", func() bool { return rest[0].IsLeader() || rest[1].IsLeader() })
	if !strings.Contains(rest[0].said.String()+rest[1].said.String(), "starting an election at once") {
		t.Error("its death was not found by evidence")
	}
}

// TestNoWitnessWhenSwitchedOff: who does not look for a dead leader says nothing
// about one to others either.
func TestNoWitnessWhenSwitchedOff(t *testing.T) {
	c := newCluster(t)
	c.slow = 10
	all := c.found(3)
	elect(t, all[0])
	c.leader(all)
	c.write(all, "one")
	c.wantLines(all, "one")
	term := all[0].current().raft.CurrentTerm()
	all[0].die()
	s := all[1].current()
	until(t, "its connections have ended", func() bool { return !s.receiving() })
	if s.probeReport(t.Context(), all[0].id, term).Refused {
		t.Error("it says that it is refused")
	}
	s.cfg.AskPeer = c.ask
	if !s.probeReport(t.Context(), all[0].id, term).Refused {
		t.Error("switched on, it does not")
	}
}
