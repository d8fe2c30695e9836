package cluster

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

func TestCatalogFollowsMembers(t *testing.T) {
	c := start(t, 3, 2)
	s, c1, c2 := c.agents[0], c.agent("c1"), c.agent("c2")

	servers, _, err := s.ServiceNodes(t.Context(), "consul", nil)
	if err != nil || len(servers) != 3 || servers[0].ServicePort != 8300 {
		t.Fatalf("service consul: %+v, %v; want the three servers on port 8300", servers, err)
	}
	register(t, c1, "web", "web-1")

	c1.kill()
	awaitStatus(t, s, "c1", api.HealthCritical)
	nodes, _, err := s.HealthService(t.Context(), "web", true, nil)
	if err != nil || len(nodes) != 0 {
		t.Errorf("a dead node's service still passes: %v, %v", nodes, err)
	}

	c1.start()
	awaitStatus(t, s, "c1", api.HealthPassing)
	eventually(t, 20*time.Second, "the service registered over HTTP is back", func(ctx context.Context) error {
		return wantInstances(ctx, s, "web", 1)
	})

	c2.signal(syscall.SIGTERM) // a client leaves
	if code := c2.exit(); code != 0 {
		t.Errorf("a client that leaves ends with %d", code)
	}
	awaitStatus(t, s, "c2", "")
}

func register(t *testing.T, a *agent, name, id string) {
	t.Helper()
	err := a.ServiceRegister(t.Context(), &api.AgentServiceRegistration{Name: name, ID: id, Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, id+" is in the catalog", func(ctx context.Context) error {
		return wantInstances(ctx, a, name, 1)
	})
}

func wantInstances(ctx context.Context, a *agent, name string, n int) error {
	nodes, _, err := a.HealthService(ctx, name, true, nil)
	if err == nil && len(nodes) != n {
		err = fmt.Errorf("%d instances of %s pass, want %d", len(nodes), name, n)
	}
	return err
}

func awaitStatus(t *testing.T, at *agent, node, want string) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("%s sees %s %q", at.name, node, want), func(ctx context.Context) error {
		got, err := at.nodeStatus(ctx, node)
		if err == nil && got != want {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}

// A deregistered service does not come back, not by anti-entropy and not by a
// restart.
func TestDeregistrationStaysDone(t *testing.T) {
	c := start(t, 1, 1)
	s, c1 := c.agents[0], c.agent("c1")
	register(t, c1, "web", "web-1")
	register(t, c1, "db", "db-1")
	if err := c1.ServiceDeregister(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "web is gone", func(ctx context.Context) error { return wantInstances(ctx, s, "web", 0) })
	c1.kill()
	c1.start()
	awaitStatus(t, s, "c1", api.HealthPassing)
	// db is back, so the agent has synchronised; web must not be.
	eventually(t, 20*time.Second, "db", func(ctx context.Context) error { return wantInstances(ctx, c1, "db", 1) })
	if err := wantInstances(t.Context(), s, "web", 0); err != nil {
		t.Error(err)
	}
}

func TestFourthServerIsPromoted(t *testing.T) {
	c := newCluster(t, "-hcl=autopilot { server_stabilization_time = \"1s\" }")
	c.launch(3, 0)
	c.agents[0].put("before", "it came")
	d := c.add("s4", true, "-bootstrap-expect=3")
	d.start()
	sawNonVoter := false
	eventually(t, 60*time.Second, "s4 is a voter", func(ctx context.Context) error {
		var conf api.RaftConfiguration
		if _, err := c.agents[0].Get(ctx, "/v1/operator/raft/configuration", nil, &conf); err != nil {
			return err
		}
		for _, s := range conf.Servers {
			if s.Node == "s4" && s.Voter {
				return nil
			}
			sawNonVoter = sawNonVoter || s.Node == "s4"
		}
		return fmt.Errorf("configuration %+v", conf)
	})
	if !sawNonVoter {
		t.Error("s4 was never seen as a non-voter")
	}
	if got := d.get("before", &client.Options{Stale: true}); got != "it came" {
		t.Errorf("s4 reads %q", got)
	}
}

// With its servers restarted at once, on the same data, the cluster is back.
func TestWholeClusterRestarts(t *testing.T) {
	c := start(t, 3, 1)
	c.agents[1].put("kept", "yes")
	for _, a := range c.agents {
		a.signal(syscall.SIGINT)
	}
	for _, a := range c.agents {
		if code := a.exit(); code != 0 {
			t.Errorf("%s ends with %d after SIGINT", a.name, code)
		}
	}
	for _, a := range c.agents {
		a.start()
	}
	c.awaitReady()
	if got := c.agent("c1").get("kept", nil); got != "yes" {
		t.Errorf("read %q after the restart", got)
	}
}

// One small cluster of processes with the race detector in them.
func TestRaceBuild(t *testing.T) {
	c := newCluster(t)
	c.bin = raceBin
	c.launch(3, 1)
	register(t, c.agent("c1"), "web", "web-1")
	c.agents[0].put("a", "1")
	c.leader().kill()
	eventually(t, 60*time.Second, "a write after the leader's death", func(ctx context.Context) error {
		_, err := c.agent("c1").KVPut(ctx, "a", []byte("2"), client.KVWrite{}, nil)
		return err
	})
	for _, a := range c.agents {
		if a.cmd == nil {
			continue
		}
		a.signal(syscall.SIGTERM)
		if code := a.exit(); code != 0 {
			t.Errorf("%s ends with %d (66 is a race)", a.name, code)
		}
	}
}
