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
)

// prompt makes autopilot promote and remove without its usual patience.
const prompt = `-hcl=autopilot { server_stabilization_time = "500ms" }`

// configuration is raft's, as this server itself has it: its servers by id, in
// order, with their role, and whether all of them vote.
func (a *agent) configuration(ctx context.Context) (servers []string, voters int, err error) {
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
func (c *cluster) awaitOneCluster(want, atLeast int) {
	c.t.Helper()
	eventually(c.t, 30*time.Second, "one cluster", func(ctx context.Context) error {
		seen := map[string][]string{}
		for _, a := range c.running() {
			servers, voters, err := a.configuration(ctx)
			if err != nil {
				return err
			}
			if len(servers) != want || voters < atLeast {
				return fmt.Errorf("%s has the configuration %q, want %d servers", a.name, servers, want)
			}
			leader, err := a.StatusLeader(ctx)
			if err != nil {
				return err
			}
			if leader == "" {
				return fmt.Errorf("%s knows no leader", a.name)
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
			seen[view] = append(seen[view], a.name)
		}
		if len(seen) != 1 {
			return fmt.Errorf("the servers differ: %v", seen)
		}
		return nil
	})
}

func (c *cluster) running() []*agent {
	var out []*agent
	for _, a := range c.agents {
		if a.server && a.cmd != nil {
			out = append(out, a)
		}
	}
	return out
}

// checkShared writes through every server and reads it at all of them.
func (c *cluster) checkShared(key string) {
	c.t.Helper()
	for _, a := range c.running() {
		a.put(key+"/"+a.name, a.name)
	}
	for _, a := range c.running() {
		for _, b := range c.running() {
			if got := a.get(key+"/"+b.name, &client.Options{Consistent: true}); got != b.name {
				c.t.Errorf("%s reads %q for what %s wrote", a.name, got, b.name)
			}
		}
	}
}

func (a *agent) said(text string) int {
	data, _ := os.ReadFile(a.logPath())
	return strings.Count(string(data), text)
}

func (a *agent) awaitSaid(text string) {
	a.c.t.Helper()
	eventually(a.c.t, 20*time.Second, a.name+" says: "+text, func(context.Context) error {
		if a.said(text) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
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
				a.start()
				a.awaitSaid(agentRuns)
				time.Sleep(300 * time.Millisecond) // long enough to do something foolish alone
			}
		},
		"backwards": func(_ *cluster, s []*agent) {
			for _, a := range []*agent{s[2], s[1], s[0]} {
				a.start()
				a.awaitSaid(agentRuns)
			}
		},
		"more than expected at once": func(_ *cluster, s []*agent) {
			for _, a := range s {
				a.start()
			}
		},
		"more than expected, the seeds last": func(_ *cluster, s []*agent) {
			for _, a := range []*agent{s[4], s[3], s[2], s[1], s[0]} {
				a.start()
			}
		},
		"one killed before": func(_ *cluster, s []*agent) {
			s[0].start()
			s[1].start()
			s[0].awaitSaid(agentRuns)
			s[0].kill()
			s[2].start()
			s[0].start()
		},
		"one killed while they begin": func(c *cluster, s []*agent) {
			for _, a := range s[:3] {
				a.start()
			}
			var first *agent
			eventually(c.t, 20*time.Second, "somebody begins", func(context.Context) error {
				for _, a := range s[:3] {
					if a.said(beginning) > 0 {
						first = a
						return nil
					}
				}
				return errors.New("not yet")
			})
			first.kill()
			first.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, prompt)
			var all []*agent
			for i := range 5 {
				all = append(all, c.add(fmt.Sprintf("s%d", i+1), true, "-bootstrap-expect=3"))
			}
			run(c, all)
			c.awaitOneCluster(len(c.running()), 3)
			c.checkShared("odd")
		})
	}
}

// Two of three expected servers wait for the third, as long as it takes.
func TestTwoOfThreeDoNotBegin(t *testing.T) {
	c := newCluster(t)
	for i := range 3 {
		c.add(fmt.Sprintf("s%d", i+1), true, "-bootstrap-expect=3")
	}
	two, third := c.agents[:2], c.agents[2]
	for _, a := range two {
		a.start()
	}
	eventually(t, 20*time.Second, "the two meet", func(ctx context.Context) error {
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
				t.Fatalf("%s: status/leader is %q, %v", a.name, leader, err)
			}
		}
	}
	for _, a := range two {
		if a.said(beginning) > 0 {
			t.Errorf("%s began without the third", a.name)
		}
	}
	third.start()
	c.awaitOneCluster(3, 3)
	for _, a := range c.agents {
		if n := a.said(beginning); n > 1 {
			t.Errorf("%s began %d times", a.name, n)
		}
	}
}

// A server whose disk was replaced comes back at once, with its old name and
// address and nothing else. It does not vote in its former name, begins nothing,
// harms nobody, and is taken in anew.
func TestServerThatLostItsData(t *testing.T) {
	for name, pick := range map[string]func(*cluster) *agent{"follower": (*cluster).follower, "leader": (*cluster).leader} {
		t.Run(name, func(t *testing.T) {
			c := start(t, 3, 0, prompt)
			c.agents[0].put("kept", "yes")
			victim := pick(c)
			before, _, err := victim.configuration(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			began := victim.said(beginning)
			victim.kill()
			if err := os.RemoveAll(filepath.Join(c.dir, victim.name)); err != nil {
				t.Fatal(err)
			}
			victim.start()
			eventually(t, 30*time.Second, "the new server has the old one's place", func(ctx context.Context) error {
				now, voters, err := victim.configuration(ctx)
				if err == nil && (voters != 3 || len(now) != 3 || slices.Equal(now, before)) {
					err = fmt.Errorf("configuration %q", now)
				}
				return err
			})
			c.awaitOneCluster(3, 3)
			c.checkShared("after")
			if got := victim.get("kept", &client.Options{Stale: true}); got != "yes" {
				t.Errorf("the new server reads %q", got)
			}
			if n := victim.said(beginning); n != began {
				t.Errorf("the empty server began a cluster of its own")
			}
			servers, _, err := c.agents[0].ServiceNodes(t.Context(), "consul", nil)
			if err != nil || len(servers) != 3 {
				t.Errorf("the catalog has %d servers, %v", len(servers), err)
			}
		})
	}
}

// A server that comes back on another address is found by its id.
func TestServerMoves(t *testing.T) {
	for name, pick := range map[string]func(*cluster) *agent{"follower": (*cluster).follower, "leader": (*cluster).leader} {
		t.Run(name, func(t *testing.T) {
			c := start(t, 3, 0)
			mover := pick(c)
			mover.kill()
			old := mover.ip
			mover.move(c.net + ".77")
			mover.start()
			c.awaitOneCluster(3, 3)
			servers, _, err := mover.configuration(t.Context())
			if text := fmt.Sprint(servers); err != nil || !strings.Contains(text, mover.ip+":8300") || strings.Contains(text, old+":") {
				t.Errorf("configuration %q, %v; want %s there and not %s", servers, err, mover.ip, old)
			}
			c.checkShared("moved")
		})
	}
}

// move gives an agent that does not run another address.
func (a *agent) move(ip string) {
	a.c.t.Helper()
	for i, f := range a.flags {
		if f == "-bind="+a.ip || f == "-client="+a.ip {
			a.flags[i] = strings.TrimSuffix(f, a.ip) + ip
		}
	}
	a.ip = ip
	a.CloseIdle()
	var err error
	if a.Client, err = client.New(client.Config{Address: ip + ":8500"}); err != nil {
		a.c.t.Fatal(err)
	}
}

// A follower leaves, then the leader: the rest work on, and nobody ever took
// those who left for failed.
func TestServersLeaveOneByOne(t *testing.T) {
	c := start(t, 3, 1)
	witness := c.agent("c1")
	stop := watchForFailures(t, witness)
	left := map[string]bool{}
	for i, pick := range []func() *agent{c.follower, c.leader} {
		a, remain := pick(), 2-i
		began := time.Now()
		if err := a.Leave(t.Context()); err != nil {
			t.Errorf("%s: leave: %v", a.name, err)
		}
		code := a.exit()
		t.Logf("%s left within %v", a.name, time.Since(began))
		if took := time.Since(began); code != 0 || took > 2*time.Second {
			t.Errorf("%s left with %d after %v", a.name, code, took)
		}
		left[a.name] = true
		c.awaitOneCluster(remain, remain)
		c.checkShared(fmt.Sprint("without", remain))
		if got := witness.get(fmt.Sprintf("without%d/%s", remain, c.leader().name), nil); got == "" {
			t.Error("the client does not reach those who remain")
		}
	}
	for name := range left {
		awaitStatus(t, witness, name, "")
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
					t.Errorf("%s saw %s fail", a.name, m.Name)
				}
			}
			critical, _, _ := a.HealthState(ctx, api.HealthCritical, &client.Options{Stale: true})
			for _, check := range critical {
				t.Errorf("%s saw %s critical", a.name, check.Node)
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
	c := start(t, 3, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	for _, a := range c.agents {
		for i := range 10 {
			busy.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					key := fmt.Sprintf("busy/%s/%d", a.name, i)
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
	for _, a := range []*agent{c.follower(), c.leader()} {
		began := time.Now()
		a.signal(syscall.SIGTERM)
		code := a.exit()
		took := time.Since(began)
		t.Logf("%s ended after %v", a.name, took)
		if code != 0 || took > 2*time.Second {
			t.Errorf("%s ended with %d after %v", a.name, code, took)
		}
		a.start()
		c.awaitOneCluster(3, 3)
	}
	cancel()
	busy.Wait()
	var ending sync.WaitGroup
	// All at once: there is nobody to hand over to, which the leader finds out by
	// trying for an election's time.
	for _, a := range c.agents {
		ending.Go(func() {
			began := time.Now()
			a.signal(syscall.SIGTERM)
			if code := a.exit(); code != 0 || time.Since(began) > 5*time.Second {
				t.Errorf("%s, with all others, ended with %d after %v", a.name, code, time.Since(began))
			}
		})
	}
	ending.Wait()
}
