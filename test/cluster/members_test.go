package cluster

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

func TestCatalogFollowsMembers(t *testing.T) {
	c := harness.Start(t, 3, 2)
	s, c1, c2 := c.Agents[0], c.Agent("c1"), c.Agent("c2")

	servers, _, err := s.ServiceNodes(t.Context(), "consul", nil)
	if err != nil || len(servers) != 3 || servers[0].ServicePort != 8300 {
		t.Fatalf("service consul: %+v, %v; want the three servers on port 8300", servers, err)
	}
	c1.Register("web", "web-1")

	c1.Kill()
	s.AwaitStatus("c1", api.HealthCritical)
	nodes, _, err := s.HealthService(t.Context(), "web", true, nil)
	if err != nil || len(nodes) != 0 {
		t.Errorf("a dead node's service still passes: %v, %v", nodes, err)
	}

	c1.Start()
	s.AwaitStatus("c1", api.HealthPassing)
	harness.Within(t, 20*time.Second, "the service registered over HTTP is back", func(ctx context.Context) error {
		return wantInstances(ctx, s, "web", 1)
	})

	c2.Signal(syscall.SIGTERM) // a client leaves
	if code := c2.Exit(); code != 0 {
		t.Errorf("a client that leaves ends with %d", code)
	}
	s.AwaitStatus("c2", "")
}

func wantInstances(ctx context.Context, a *agent, name string, n int) error {
	nodes, _, err := a.HealthService(ctx, name, true, nil)
	if err == nil && len(nodes) != n {
		err = fmt.Errorf("%d instances of %s pass, want %d", len(nodes), name, n)
	}
	return err
}

// A deregistered service does not come back, not by anti-entropy and not by a
// restart.
func TestDeregistrationStaysDone(t *testing.T) {
	c := harness.Start(t, 1, 1)
	s, c1 := c.Agents[0], c.Agent("c1")
	c1.Register("web", "web-1")
	c1.Register("db", "db-1")
	if err := c1.ServiceDeregister(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	harness.Within(t, 10*time.Second, "web is gone", func(ctx context.Context) error { return wantInstances(ctx, s, "web", 0) })
	c1.Kill()
	c1.Start()
	s.AwaitStatus("c1", api.HealthPassing)
	// db is back, so the agent has synchronised; web must not be.
	harness.Within(t, 20*time.Second, "db", func(ctx context.Context) error { return wantInstances(ctx, c1, "db", 1) })
	if err := wantInstances(t.Context(), s, "web", 0); err != nil {
		t.Error(err)
	}
}

func TestFourthServerIsPromoted(t *testing.T) {
	c := harness.New(t, "-hcl=autopilot { server_stabilization_time = \"1s\" }")
	c.Launch(3, 0)
	c.Agents[0].PutKey("before", "it came")
	d := c.Add("s4", true, "-bootstrap-expect=3")
	d.Start()
	sawNonVoter := false
	harness.Within(t, 60*time.Second, "s4 is a voter", func(ctx context.Context) error {
		var conf api.RaftConfiguration
		if _, err := c.Agents[0].Get(ctx, "/v1/operator/raft/configuration", nil, &conf); err != nil {
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
	if got := d.GetKey("before", &client.Options{Stale: true}); got != "it came" {
		t.Errorf("s4 reads %q", got)
	}
}

// With its servers restarted at once, on the same data, the cluster is back.
func TestWholeClusterRestarts(t *testing.T) {
	c := harness.Start(t, 3, 1)
	c.Agents[1].PutKey("kept", "yes")
	for _, a := range c.Agents {
		a.Signal(syscall.SIGINT)
	}
	for _, a := range c.Agents {
		if code := a.Exit(); code != 0 {
			t.Errorf("%s ends with %d after SIGINT", a.Name, code)
		}
	}
	for _, a := range c.Agents {
		a.Start()
	}
	c.AwaitReady()
	if got := c.Agent("c1").GetKey("kept", nil); got != "yes" {
		t.Errorf("read %q after the restart", got)
	}
}

// One small cluster of processes with the race detector in them.
func TestRaceBuild(t *testing.T) {
	c := harness.New(t)
	c.Bin = harness.RaceBin(t)
	c.Launch(3, 1)
	c.Agent("c1").Register("web", "web-1")
	c.Agents[0].PutKey("a", "1")
	c.Leader().Kill()
	harness.Within(t, 60*time.Second, "a write after the leader's death", func(ctx context.Context) error {
		_, err := c.Agent("c1").KVPut(ctx, "a", []byte("2"), client.KVWrite{}, nil)
		return err
	})
	for _, a := range c.Agents {
		if !a.Up() {
			continue
		}
		a.Signal(syscall.SIGTERM)
		if code := a.Exit(); code != 0 {
			t.Errorf("%s ends with %d (66 is a race)", a.Name, code)
		}
	}
}
