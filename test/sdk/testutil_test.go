package sdk

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/sdk/testutil"
)

// The harness's default server starts, leads, votes and stops.
func TestHarnessStartsDefaultServer(t *testing.T) {
	s, c := start(t, nil)
	s.WaitForVoting(t)
	name, err := c.Agent().NodeName()
	if err != nil || name != s.Config.NodeName {
		t.Errorf("the node is called %q, %v; want %q", name, err, s.Config.NodeName)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("an orderly stop ends with %v", err)
	}
}

// Every optional key that the harness can write is accepted.
func TestHarnessStartsWithEveryKey(t *testing.T) {
	s, c := start(t, func(c *testutil.TestServerConfig) {
		c.NodeMeta = map[string]string{"rack": "7"}
		c.NodeLocality = &testutil.Locality{Region: "r", Zone: "z"}
		c.Datacenter, c.PrimaryDatacenter = "dc7", "dc7"
		c.RaftProtocol = 3
		c.Encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
		c.EnableScriptChecks, c.EnableDebug = true, true
		c.Autopilot = &testutil.TestAutopilotConfig{ServerStabilizationTime: "1s"}
		c.Experiments = []string{"resource-apis"}
		c.Audit = &testutil.TestAuditConfig{}
		c.RetryJoin = []string{}
		c.Ports.GRPCTLS = c.Ports.GRPC + 1 // written for a reference of 1.14 or later
	})
	s.WaitForVoting(t)
	self, err := c.Agent().Self()
	must(t, err)
	if self["Config"]["Datacenter"] != "dc7" || self["Meta"]["rack"] != "7" {
		t.Errorf("self: %v, %v", self["Config"], self["Meta"])
	}
}

func TestHarnessHelpers(t *testing.T) {
	s, c := start(t, nil)

	s.SetKVString(t, "a/one", "1")
	s.SetKV(t, "a/two", []byte{0, 255})
	s.PopulateKV(t, map[string][]byte{"b/x": []byte("x"), "b/y": []byte("y")})
	if got := s.GetKVString(t, "a/one"); got != "1" {
		t.Errorf("a/one: %q", got)
	}
	if got := s.GetKV(t, "a/two"); !slices.Equal(got, []byte{0, 255}) {
		t.Errorf("a/two: %v", got)
	}
	if got := s.ListKV(t, "b"); !slices.Equal(got, []string{"b/x", "b/y"}) {
		t.Errorf("keys below b: %q", got)
	}

	s.AddService(t, "redis", testutil.HealthPassing, []string{"v1", "v2"})
	s.AddService(t, "slow", testutil.HealthWarning, nil)
	s.AddAddressableService(t, "web", testutil.HealthCritical, "10.0.0.1", 80, []string{"public"})
	s.AddCheck(t, "disk", "", testutil.HealthWarning)
	s.AddCheck(t, "ping", "redis", testutil.HealthPassing)
	for service, want := range map[string][]string{
		"redis": {"passing", "passing"}, "slow": {"warning"}, "web": {"critical"},
	} {
		eventually(t, service, func() error {
			checks, _, err := c.Health().Checks(service, nil)
			if err != nil {
				return err
			}
			var got []string
			for _, check := range checks {
				got = append(got, check.Status)
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("its checks are %q, want %q", got, want)
			}
			return nil
		})
	}
}

// Two servers of the harness become one cluster.
func TestHarnessJoinsServers(t *testing.T) {
	s1, c1 := start(t, nil)
	s2, c2 := launch(t, func(c *testutil.TestServerConfig) { c.Bootstrap = false })
	s1.JoinLAN(t, s2.LANAddr)
	s2.WaitForSerfCheck(t)
	s1.SetKVString(t, "from", "s1")
	if got := s2.GetKVString(t, "from"); got != "s1" {
		t.Errorf("s2 reads %q", got)
	}
	s2.SetKVString(t, "from", "s2")
	if got := s1.GetKVString(t, "from"); got != "s2" {
		t.Errorf("s1 reads %q", got)
	}
	for _, c := range []*api.Client{c1, c2} {
		members, err := c.Agent().Members(false)
		if err != nil || len(members) != 2 {
			t.Errorf("%d members, %v", len(members), err)
		}
	}
}
