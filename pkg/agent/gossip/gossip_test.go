package gossip

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// node is a member that runs inside a test.
type node struct {
	*Pool
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

// agentTiming is that of an agent whose configuration says nothing.
var agentTiming = Timing{
	ProbeInterval: 300 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond, GossipInterval: 100 * time.Millisecond,
	SuspicionMult: 6, RetransmitMult: 8, GossipNodes: 3,
}

func start(t *testing.T, cfg Config) *node {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = logx.Discard()
	}
	if cfg.NodeID == "" {
		cfg.NodeID = "id-of-" + cfg.NodeName
	}
	if cfg.Datacenter == "" {
		cfg.Datacenter = "dc1"
	}
	if cfg.ReconnectTimeout == 0 {
		cfg.ReconnectTimeout = 72 * time.Hour
	}
	if cfg.MaxMembers == 0 {
		cfg.MaxMembers = MaxMembers
	}
	if cfg.Timing == (Timing{}) {
		cfg.Timing = agentTiming
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Pool: New(cfg), t: t, stop: cancel, done: make(chan error, 1)}
	go func() { n.done <- n.Run(ctx) }()
	if err := n.AwaitUp(ctx); err != nil {
		cancel()
		t.Fatalf("start %s: %v", cfg.NodeName, err)
	}
	return n
}

// bubble runs f with fake time, and lets memberlist's last timers end.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t)
		time.Sleep(time.Minute)
	})
}

// end stops the member without a leave.
func (n *node) end() {
	n.t.Helper()
	n.stop()
	if err := <-n.done; err != nil {
		n.t.Errorf("Run of %s returned %v", n.cfg.NodeName, err)
	}
}

func (n *node) status(name string) int {
	m, _ := n.Member(name)
	return m.Status
}

// pool starts members n1, n2, ... in memory, all joined to the first.
func pool(t *testing.T, network *memNet, count int) []*node {
	t.Helper()
	var all []*node
	for i := 1; i <= count; i++ {
		n := start(t, Config{NodeName: fmt.Sprint("n", i), Server: i == 1, ServerPort: 8300, transport: network.attach(ipOf(i))})
		if i > 1 {
			if _, err := n.Join([]string{ipOf(1) + ":8301"}); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, n)
	}
	time.Sleep(time.Second) // fake time: what was said has been gossiped
	for _, n := range all {
		if got := n.NumNodes(); got != count {
			t.Fatalf("%s knows %d members, want %d", n.cfg.NodeName, got, count)
		}
	}
	return all
}

func endAll(all []*node) {
	for _, n := range all {
		n.end()
	}
}

// waitStatus returns how long it took until every one of all sees name so.
func waitStatus(t *testing.T, all []*node, name string, status int, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		missing := 0
		for _, n := range all {
			if n.status(name) != status {
				missing++
			}
		}
		if missing == 0 {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("after %v %d of %d members do not see %s as %d", limit, missing, len(all), name, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestFailureIsSeenInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		all := pool(t, network, 10)
		defer endAll(all)
		network.setDown(ipOf(10)+":8301", true)
		if took := waitStatus(t, all[:9], "n10", api.MemberFailed, 20*time.Second); took > 5*time.Second {
			t.Errorf("all saw the failure after %v, want about 3 s", took)
		}
		network.setDown(ipOf(10)+":8301", false)
		// Push/pull and serf's reconnect bring it back without anybody's help.
		waitStatus(t, all[:9], "n10", api.MemberAlive, 90*time.Second)
	})
}

func TestPauseOfTwoSecondsFailsNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		all := pool(t, network, 10)
		defer endAll(all)
		network.setDown(ipOf(10)+":8301", true)
		time.Sleep(2 * time.Second)
		network.setDown(ipOf(10)+":8301", false)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			for _, n := range all[:9] {
				if n.status("n10") != api.MemberAlive {
					t.Fatalf("%s sees n10 as %d", n.cfg.NodeName, n.status("n10"))
				}
			}
		}
	})
}

func TestLeaveIsQuickAndNeverLooksLikeFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		all := pool(t, network, 5)
		defer endAll(all)
		began := time.Now()
		if err := all[4].Leave(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("Leave took %v, want at most 0.5 s", took)
		}
		waitStatus(t, all[:4], "n5", api.MemberLeft, time.Second)
		if err := all[4].Leave(); err != nil {
			t.Errorf("a second Leave: %v", err)
		}
	})
}

func TestLeaveAndShutdownAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		all := pool(t, network, 2)
		defer all[0].end()
		left := make(chan error)
		go func() { left <- all[1].Leave() }()
		time.Sleep(10 * time.Millisecond)
		all[1].end() // waits for the Leave instead of panicking
		if err := <-left; err != nil {
			t.Errorf("Leave: %v", err)
		}
		waitStatus(t, all[:1], "n2", api.MemberLeft, time.Second)
	})
}

func TestSameNameComesBackAtNewAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		all := pool(t, network, 3)
		defer endAll(all[:2])
		all[2].end()
		again := start(t, Config{NodeName: "n3", transport: network.attach(ipOf(30))})
		defer again.end()
		if _, err := again.Join([]string{ipOf(1) + ":8301"}); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			if m, _ := all[0].Member("n3"); m.Addr == ipOf(30) && m.Status == api.MemberAlive {
				break
			}
			if time.Since(began) > 30*time.Second {
				m, _ := all[0].Member("n3")
				t.Fatalf("n1 still has n3 as %+v", m)
			}
		}
	})
}

func TestWhoIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"other datacenter": {Config{NodeName: "x", Datacenter: "dc2"}, `belongs to datacenter "dc1", this pool to "dc2"`},
		"our id is taken":  {Config{NodeName: "x", NodeID: "id-of-n2"}, "has our own node id id-of-n2"},
		"wrong key":        {Config{NodeName: "x", EncryptKey: []byte("0123456789abcdef")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				network := newMemNet()
				all := pool(t, network, 2)
				defer endAll(all)
				c.cfg.transport = network.attach(ipOf(9))
				x := start(t, c.cfg)
				defer x.end()
				_, err := x.Join([]string{ipOf(1) + ":8301"})
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Join returned %v, want %q", err, c.want)
				}
				time.Sleep(30 * time.Second)
				if _, ok := all[0].Member("x"); ok {
					t.Error("the pool took x in")
				}
			})
		})
	}
}

func TestForceLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		all := pool(t, network, 4)
		defer endAll(all[:2])
		all[2].end()
		all[3].end()
		waitStatus(t, all[:2], "n3", api.MemberFailed, 20*time.Second)
		waitStatus(t, all[:2], "n4", api.MemberFailed, 20*time.Second)

		if err := all[0].ForceLeave("n3", false); err != nil {
			t.Fatal(err)
		}
		waitStatus(t, all[:2], "n3", api.MemberLeft, time.Second)
		if err := all[0].ForceLeave("n4", true); err != nil {
			t.Fatal(err)
		}
		waitStatus(t, all[:2], "n4", api.MemberNone, time.Second)
		err := all[0].ForceLeave("nobody", false)
		if err == nil || err.Error() != "agent: No node found with name 'nobody'" {
			t.Errorf("ForceLeave of an unknown name: %v", err)
		}
	})
}

func TestFailedMembersAreReapedAfterThreeDays(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates three days")
	}
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		var changed atomic.Int32
		slow := agentTiming
		slow.ProbeInterval, slow.GossipInterval = 10*time.Minute, 10*time.Minute
		n := start(t, Config{NodeName: "n1", transport: network.attach(ipOf(1)), OnChange: func() { changed.Add(1) }, Timing: slow})
		defer n.end()
		gone := start(t, Config{NodeName: "n2", transport: network.attach(ipOf(2))})
		if _, err := gone.Join([]string{ipOf(1) + ":8301"}); err != nil {
			t.Fatal(err)
		}
		gone.end()
		waitStatus(t, []*node{n}, "n2", api.MemberFailed, 10*time.Hour)
		time.Sleep(71 * time.Hour)
		if n.status("n2") != api.MemberFailed {
			t.Fatal("reaped too early")
		}
		synctest.Wait()
		before := changed.Load()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n.status("n2") != api.MemberNone {
			t.Error("n2 is still known after 73 h")
		}
		if changed.Load() == before {
			t.Error("OnChange was not called for the reaping")
		}
	})
}

func TestTagsAndServers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		server := start(t, Config{NodeName: "s1", Server: true, ServerPort: 8300, Expect: 3, Build: "1.0.0:abcdef01", transport: network.attach(ipOf(1))})
		defer server.end()
		client := start(t, Config{NodeName: "c1", Build: "1.0.0:abcdef01", transport: network.attach(ipOf(2))})
		defer client.end()
		if _, err := client.Join([]string{ipOf(1) + ":8301"}); err != nil {
			t.Fatal(err)
		}
		if got := client.Local().Tags["role"]; got != "node" {
			t.Errorf("a client's role is %q", got)
		}
		servers := client.Servers()
		if len(servers) != 1 {
			t.Fatalf("the client knows the servers %+v", servers)
		}
		s := servers[0]
		if s.ID != "id-of-s1" || s.Addr != "10.0.0.1:8300" || s.Expect != 3 || s.Build != "1.0.0:abcdef01" || s.Tags["raft_vsn"] != "3" {
			t.Errorf("the client reads the server as %+v", s)
		}
		if err := server.SetTag(TagBoot, "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := client.Servers()[0].Tags[TagBoot]; got != "1" {
			t.Errorf("the changed tag reached the client as %q", got)
		}
	})
}

func TestUserEventsReachEverybodyOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		got := make(chan Event, 10)
		a := start(t, Config{NodeName: "a", transport: network.attach(ipOf(1)), OnEvent: func(e Event) { got <- e }})
		defer a.end()
		b := start(t, Config{NodeName: "b", transport: network.attach(ipOf(2)), OnEvent: func(e Event) { got <- e }})
		defer b.end()
		if _, err := b.Join([]string{ipOf(1) + ":8301"}); err != nil {
			t.Fatal(err)
		}
		if err := a.UserEvent("deploy", []byte("v2")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if len(got) != 2 {
			t.Fatalf("%d deliveries, want 2", len(got))
		}
		if e := <-got; e.Name != "deploy" || string(e.Payload) != "v2" {
			t.Errorf("got %+v", e)
		}
	})
}
