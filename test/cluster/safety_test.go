package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// prompt makes autopilot promote and remove without its usual patience.
const prompt = `-hcl=autopilot { server_stabilization_time = "500ms" }`

// configuration is raft's, as this server itself has it: its servers by id, in
// order, with their role, and whether all of them vote.
func configuration(ctx context.Context, a *agent) (servers []string, voters int, err error) {
	var conf api.RaftConfiguration
	if _, err := a.Get(ctx, "/v1/operator/raft/configuration", &client.Options{Stale: true}, &conf); err != nil {
		return nil, 0, err
	}
	for _, s := range conf.Servers {
		servers = append(servers, fmt.Sprintf("%s %s %s voter=%v", s.ID, s.Node, s.Address, s.Voter))
		if s.Voter {
			voters++
		}
	}
	slices.Sort(servers)
	return servers, voters, nil
}

// awaitOneCluster waits until all servers that run have one raft configuration,
// with want servers of which at least so many vote, and one set of nodes, and
// follow one leader.
func awaitOneCluster(c *cluster, want, atLeast int) {
	c.T.Helper()
	harness.Within(c.T, 30*time.Second, "one cluster", func(ctx context.Context) error {
		seen := map[string][]string{}
		for _, a := range c.Servers() {
			servers, voters, err := configuration(ctx, a)
			if err != nil {
				return err
			}
			if len(servers) != want || voters < atLeast {
				return fmt.Errorf("%s has the configuration %q, want %d servers", a.Name, servers, want)
			}
			leader, err := a.StatusLeader(ctx)
			if err != nil {
				return err
			}
			if leader == "" {
				return fmt.Errorf("%s knows no leader", a.Name)
			}
			nodes, _, err := a.Nodes(ctx, &client.Options{Stale: true})
			if err != nil {
				return err
			}
			names := []string{"led by " + leader}
			for _, n := range nodes {
				names = append(names, n.Node+" "+n.ID+" "+n.Address)
			}
			view := fmt.Sprint(servers, names)
			seen[view] = append(seen[view], a.Name)
		}
		if len(seen) != 1 {
			return fmt.Errorf("the servers differ: %v", seen)
		}
		return nil
	})
}

// checkShared writes through every server and reads it at all of them.
func checkShared(c *cluster, key string) {
	c.T.Helper()
	for _, a := range c.Servers() {
		a.PutKey(key+"/"+a.Name, a.Name)
	}
	for _, a := range c.Servers() {
		for _, b := range c.Servers() {
			if got := a.GetKey(key+"/"+b.Name, &client.Options{Consistent: true}); got != b.Name {
				c.T.Errorf("%s reads %q for what %s wrote", a.Name, got, b.Name)
			}
		}
	}
}

// Logged by who writes raft's first configuration, and once the agent is up.
const (
	beginning = "beginning a new cluster"
	agentRuns = "agent runs"
)

// However servers come up, they begin one cluster and not two.
func TestOddStartsMakeOneCluster(t *testing.T) {
	for name, run := range map[string]func(c *cluster, s []*agent){
		"one after the other": func(_ *cluster, s []*agent) {
			for _, a := range s[:3] {
				a.Start()
				a.AwaitSaid(agentRuns)
				time.Sleep(300 * time.Millisecond) // long enough to do something foolish alone
			}
		},
		"backwards": func(_ *cluster, s []*agent) {
			for _, a := range []*agent{s[2], s[1], s[0]} {
				a.Start()
				a.AwaitSaid(agentRuns)
			}
		},
		"more than expected at once": func(_ *cluster, s []*agent) {
			for _, a := range s {
				a.Start()
			}
		},
		"more than expected, the seeds last": func(_ *cluster, s []*agent) {
			for _, a := range []*agent{s[4], s[3], s[2], s[1], s[0]} {
				a.Start()
			}
		},
		"one killed before": func(_ *cluster, s []*agent) {
			s[0].Start()
			s[1].Start()
			s[0].AwaitSaid(agentRuns)
			s[0].Kill()
			s[2].Start()
			s[0].Start()
		},
		"one killed while they begin": func(c *cluster, s []*agent) {
			for _, a := range s[:3] {
				a.Start()
			}
			var first *agent
			harness.Within(c.T, 20*time.Second, "somebody begins", func(context.Context) error {
				for _, a := range s[:3] {
					if a.Said(beginning) > 0 {
						first = a
						return nil
					}
				}
				return errors.New("not yet")
			})
			first.Kill()
			first.Start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.New(t, prompt)
			var all []*agent
			for i := range 5 {
				all = append(all, c.Add(fmt.Sprintf("s%d", i+1), true, "-bootstrap-expect=3"))
			}
			run(c, all)
			awaitOneCluster(c, len(c.Servers()), 3)
			checkShared(c, "odd")
		})
	}
}

// Two of three expected servers wait for the third, as long as it takes.
func TestTwoOfThreeDoNotBegin(t *testing.T) {
	c := harness.New(t)
	for i := range 3 {
		c.Add(fmt.Sprintf("s%d", i+1), true, "-bootstrap-expect=3")
	}
	two, third := c.Agents[:2], c.Agents[2]
	for _, a := range two {
		a.Start()
	}
	harness.Within(t, 20*time.Second, "the two meet", func(ctx context.Context) error {
		m, err := two[0].AgentMembers(ctx, nil)
		if err == nil && len(m) != 2 {
			err = fmt.Errorf("%d members", len(m))
		}
		return err
	})
	// Longer than two election timers. With a configuration they would elect.
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		for _, a := range two {
			if leader, err := a.StatusLeader(t.Context()); err != nil || leader != "" {
				t.Fatalf("%s: status/leader is %q, %v", a.Name, leader, err)
			}
		}
	}
	for _, a := range two {
		if a.Said(beginning) > 0 {
			t.Errorf("%s began without the third", a.Name)
		}
	}
	third.Start()
	awaitOneCluster(c, 3, 3)
	for _, a := range c.Agents {
		if n := a.Said(beginning); n > 1 {
			t.Errorf("%s began %d times", a.Name, n)
		}
	}
}

// A server whose disk was replaced comes back at once, with its old name and
// address and nothing else. It does not vote in its former name, begins nothing,
// harms nobody, and is taken in anew.
func TestServerThatLostItsData(t *testing.T) {
	for name, pick := range map[string]func(*cluster) *agent{"follower": (*cluster).Follower, "leader": (*cluster).Leader} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, 3, 0, prompt)
			c.Agents[0].PutKey("kept", "yes")
			victim := pick(c)
			before, _, err := configuration(t.Context(), victim)
			if err != nil {
				t.Fatal(err)
			}
			began := victim.Said(beginning)
			victim.Kill()
			if err := os.RemoveAll(filepath.Join(c.Dir, victim.Name)); err != nil {
				t.Fatal(err)
			}
			victim.Start()
			harness.Within(t, 30*time.Second, "the new server has the old one's place", func(ctx context.Context) error {
				now, voters, err := configuration(ctx, victim)
				if err == nil && (voters != 3 || len(now) != 3 || slices.Equal(now, before)) {
					err = fmt.Errorf("configuration %q", now)
				}
				return err
			})
			awaitOneCluster(c, 3, 3)
			checkShared(c, "after")
			if got := victim.GetKey("kept", &client.Options{Stale: true}); got != "yes" {
				t.Errorf("the new server reads %q", got)
			}
			if n := victim.Said(beginning); n != began {
				t.Errorf("the empty server began a cluster of its own")
			}
			servers, _, err := c.Agents[0].ServiceNodes(t.Context(), "consul", nil)
			if err != nil || len(servers) != 3 {
				t.Errorf("the catalog has %d servers, %v", len(servers), err)
			}
		})
	}
}

// A server that comes back on another address is found by its id.
func TestServerMoves(t *testing.T) {
	for name, pick := range map[string]func(*cluster) *agent{"follower": (*cluster).Follower, "leader": (*cluster).Leader} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, 3, 0)
			mover := pick(c)
			mover.Kill()
			old := mover.IP
			move(mover, c.Net+".77")
			mover.Start()
			awaitOneCluster(c, 3, 3)
			servers, _, err := configuration(t.Context(), mover)
			if text := fmt.Sprint(servers); err != nil || !strings.Contains(text, mover.IP+":8300") || strings.Contains(text, old+":") {
				t.Errorf("configuration %q, %v; want %s there and not %s", servers, err, mover.IP, old)
			}
			checkShared(c, "moved")
		})
	}
}

// move gives an agent that does not run another address.
func move(a *agent, ip string) {
	a.C.T.Helper()
	for i, f := range a.Flags {
		if f == "-bind="+a.IP || f == "-client="+a.IP {
			a.Flags[i] = strings.TrimSuffix(f, a.IP) + ip
		}
	}
	a.IP = ip
	a.CloseIdle()
	var err error
	if a.Client, err = client.New(client.Config{Address: ip + ":8500"}); err != nil {
		a.C.T.Fatal(err)
	}
}

// A follower leaves, then the leader: the rest work on, and nobody ever took
// those who left for failed.
func TestServersLeaveOneByOne(t *testing.T) {
	c := harness.Start(t, 3, 1)
	witness := c.Agent("c1")
	stop := watchForFailures(t, witness)
	left := map[string]bool{}
	for i, pick := range []func() *agent{c.Follower, c.Leader} {
		a, remain := pick(), 2-i
		began := time.Now()
		if err := a.Leave(t.Context()); err != nil {
			t.Errorf("%s: leave: %v", a.Name, err)
		}
		code := a.Exit()
		t.Logf("%s left within %v", a.Name, time.Since(began))
		if took := time.Since(began); code != 0 || took > 2*time.Second {
			t.Errorf("%s left with %d after %v", a.Name, code, took)
		}
		left[a.Name] = true
		awaitOneCluster(c, remain, remain)
		checkShared(c, fmt.Sprint("without", remain))
		if got := witness.GetKey(fmt.Sprintf("without%d/%s", remain, c.Leader().Name), nil); got == "" {
			t.Error("the client does not reach those who remain")
		}
	}
	for name := range left {
		witness.AwaitStatus(name, "")
	}
	stop()
}

// watchForFailures looks, until it is stopped, whether a member is ever seen as
// failed or a node as critical.
func watchForFailures(t *testing.T, a *agent) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			members, _ := a.AgentMembers(ctx, nil)
			for _, m := range members {
				if m.Status == api.MemberFailed {
					t.Errorf("%s saw %s fail", a.Name, m.Name)
				}
			}
			critical, _, _ := a.HealthState(ctx, api.HealthCritical, &client.Options{Stale: true})
			for _, check := range critical {
				t.Errorf("%s saw %s critical", a.Name, check.Node)
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); watching.Wait() }
}

// SIGTERM ends a server within two seconds, with 0, whatever it is doing, and
// says nothing that is not true to those who wait.
func TestTermIsQuick(t *testing.T) {
	c := harness.Start(t, 3, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	for _, a := range c.Agents {
		for i := range 10 {
			busy.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					key := fmt.Sprintf("busy/%s/%d", a.Name, i)
					if _, err := a.KVPut(ctx, key, []byte("x"), client.KVWrite{}, nil); err != nil {
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
			busy.Go(func() {
				for ctx.Err() == nil {
					pair, _, err := a.KVGet(ctx, "nothing", &client.Options{Index: 1 << 40, Wait: time.Minute})
					if err == nil && pair != nil {
						t.Errorf("a blocked reader got %+v", pair)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
	}
	for _, a := range []*agent{c.Follower(), c.Leader()} {
		began := time.Now()
		a.Signal(syscall.SIGTERM)
		code := a.Exit()
		took := time.Since(began)
		t.Logf("%s ended after %v", a.Name, took)
		if code != 0 || took > 2*time.Second {
			t.Errorf("%s ended with %d after %v", a.Name, code, took)
		}
		a.Start()
		awaitOneCluster(c, 3, 3)
	}
	cancel()
	busy.Wait()
	var ending sync.WaitGroup
	// All at once: there is nobody to hand over to, and no majority for what is under
	// way.
	for _, a := range c.Agents {
		ending.Go(func() {
			began := time.Now()
			a.Signal(syscall.SIGTERM)
			if code := a.Exit(); code != 0 || time.Since(began) > 2*time.Second {
				t.Errorf("%s, with all others, ended with %d after %v", a.Name, code, time.Since(began))
			}
		})
	}
	ending.Wait()
}
