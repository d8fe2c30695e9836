package sdk

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/sdk/testutil"
)

func TestAgent(t *testing.T) {
	s, c := start(t, nil)
	a := c.Agent()

	t.Run("self", func(t *testing.T) {
		self, err := a.Self()
		must(t, err)
		conf := self["Config"]
		if conf["NodeName"] != s.Config.NodeName || conf["NodeID"] != s.Config.NodeID || conf["Server"] != true || conf["Datacenter"] != "dc1" {
			t.Errorf("config %v", conf)
		}
		if self["Member"]["Name"] != s.Config.NodeName || self["Stats"]["raft"] == nil {
			t.Errorf("self %v", self)
		}
		if v, err := a.Version(); err != nil || v["HumanVersion"] == "" {
			t.Errorf("version %v, %v", v, err)
		}
		if _, err := a.Metrics(); err != nil {
			t.Errorf("metrics: %v", err)
		}
		must(t, a.Reload())
	})
	t.Run("members", func(t *testing.T) {
		members, err := a.Members(false)
		must(t, err)
		if len(members) != 1 {
			t.Fatalf("%d members", len(members))
		}
		m := members[0]
		if m.Name != s.Config.NodeName || m.Status != 1 || m.Tags["role"] != "consul" || m.Tags["id"] != s.Config.NodeID || m.Addr != "127.0.0.1" {
			t.Errorf("%+v", m)
		}
		if members, err := a.MembersOpts(api.MembersOpts{Filter: `Name == "nobody"`}); err != nil || len(members) != 0 {
			t.Errorf("filtered: %+v, %v", members, err)
		}
	})
	t.Run("register a service", func(t *testing.T) {
		reg := &api.AgentServiceRegistration{
			ID: "web-1", Name: "web", Tags: []string{"a", "b"}, Port: 8080, Address: "10.2.3.4",
			Meta: map[string]string{"v": "1"}, Weights: &api.AgentWeights{Passing: 5, Warning: 2},
			TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "198.51.100.7", Port: 80}},
			Check:           &api.AgentServiceCheck{CheckID: "web-ttl", TTL: "1h", Status: api.HealthPassing, Notes: "said by itself"},
		}
		must(t, a.ServiceRegister(reg))
		got, _, err := a.Service("web-1", nil)
		must(t, err)
		if got.Service != "web" || !slices.Equal(got.Tags, reg.Tags) || got.Port != 8080 || got.Weights.Passing != 5 || got.TaggedAddresses["wan"].Port != 80 || got.ContentHash == "" {
			t.Errorf("%+v", got)
		}
		eventually(t, "web passes", func() error { return passing(c, "web", 1) })
		services, err := a.ServicesWithFilter(`Meta.v == "1"`)
		if err != nil || len(services) != 1 || services["web-1"] == nil {
			t.Errorf("filtered: %v, %v", services, err)
		}
		reg.Port = 8081
		must(t, a.ServiceRegisterOpts(reg, api.ServiceRegisterOpts{ReplaceExistingChecks: true}))
		eventually(t, "the catalog has its new port", func() error {
			all, _, err := c.Catalog().Service("web", "b", nil)
			if err == nil && (len(all) != 1 || all[0].ServicePort != 8081) {
				err = fmt.Errorf("%+v", all)
			}
			return err
		})
	})
	t.Run("ttl", func(t *testing.T) {
		for _, step := range []struct {
			do           func() error
			want, output string
		}{
			{func() error { return a.WarnTTL("web-ttl", "hm") }, api.HealthWarning, "hm"},
			{func() error { return a.FailTTL("web-ttl", "no") }, api.HealthCritical, "no"},
			{func() error { return a.PassTTL("web-ttl", "yes") }, api.HealthPassing, "yes"},
			{func() error { return a.UpdateTTL("web-ttl", "full", "fail") }, api.HealthCritical, "full"},
			{func() error { return a.UpdateTTL("web-ttl", "good", api.HealthPassing) }, api.HealthPassing, "good"},
		} {
			must(t, step.do())
			checks, err := a.ChecksWithFilter(`CheckID == "web-ttl"`)
			must(t, err)
			if ch := checks["web-ttl"]; ch == nil || ch.Status != step.want || ch.Output != step.output || ch.ServiceID != "web-1" {
				t.Errorf("locally %+v, want %s", ch, step.want)
			}
			eventually(t, "the catalog has "+step.want, func() error {
				checks, _, err := c.Health().Checks("web", nil)
				if err == nil && (len(checks) != 1 || checks[0].Status != step.want) {
					err = fmt.Errorf("%+v", checks)
				}
				return err
			})
		}
		if err := a.PassTTL("nothing", ""); err == nil || !strings.Contains(err.Error(), `Unknown check ID "nothing"`) {
			t.Errorf("an unknown check: %v", err)
		}
	})
	t.Run("health of the agent's services", func(t *testing.T) {
		status, info, err := a.AgentHealthServiceByID("web-1")
		if err != nil || status != api.HealthPassing || info.Service.Port != 8081 {
			t.Errorf("%s, %+v, %v", status, info, err)
		}
		must(t, a.FailTTL("web-ttl", ""))
		status, infos, err := a.AgentHealthServiceByName("web")
		if err != nil || status != api.HealthCritical || len(infos) != 1 {
			t.Errorf("%s, %+v, %v", status, infos, err)
		}
		must(t, a.PassTTL("web-ttl", ""))
	})
	t.Run("maintenance", func(t *testing.T) {
		must(t, a.EnableServiceMaintenance("web-1", "broken"))
		checks, err := a.Checks()
		must(t, err)
		if ch := checks["_service_maintenance:web-1"]; ch == nil || ch.Status != api.HealthCritical || ch.Notes != "broken" {
			t.Errorf("%+v", ch)
		}
		eventually(t, "web is out", func() error { return passing(c, "web", 0) })
		must(t, a.DisableServiceMaintenance("web-1"))
		eventually(t, "web is back", func() error { return passing(c, "web", 1) })
		must(t, a.EnableNodeMaintenance("reboot"))
		eventually(t, "the node is out", func() error { return passing(c, "web", 0) })
		must(t, a.DisableNodeMaintenance())
		eventually(t, "the node is back", func() error { return passing(c, "web", 1) })
	})
	t.Run("deregister", func(t *testing.T) {
		must(t, a.CheckRegister(&api.AgentCheckRegistration{ID: "extra", Name: "extra", ServiceID: "web-1", AgentServiceCheck: api.AgentServiceCheck{TTL: "1h"}}))
		eventually(t, "critical by its second check", func() error { return passing(c, "web", 0) })
		must(t, a.CheckDeregister("extra"))
		eventually(t, "without the second check", func() error { return passing(c, "web", 1) })
		must(t, a.ServiceDeregister("web-1"))
		eventually(t, "web is gone", func() error {
			all, _, err := c.Catalog().Service("web", "", nil)
			if err == nil && len(all) != 0 {
				err = fmt.Errorf("%d instances", len(all))
			}
			return err
		})
		if err := a.ServiceDeregister("web-1"); err == nil || !strings.Contains(err.Error(), "Unknown service ID") {
			t.Errorf("deregistered twice: %v", err)
		}
		if checks, err := a.Checks(); err != nil || len(checks) != 0 {
			t.Errorf("left: %v, %v", slices.Collect(maps.Keys(checks)), err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, reg := range map[string]*api.AgentServiceRegistration{
			"Missing service name":                 {},
			"Invalid check":                        {Name: "x", Check: &api.AgentServiceCheck{HTTP: "http://127.0.0.1"}},
			"Scripts are disabled on this agent":   {Name: "x", Check: &api.AgentServiceCheck{Args: []string{"true"}, Interval: "1s"}},
			"Status for checks must":               {Name: "x", Check: &api.AgentServiceCheck{TTL: "1s", Status: "well"}},
			"Interval and TTL cannot both be":      {Name: "x", Check: &api.AgentServiceCheck{TTL: "1s", Interval: "1s"}},
			"FailuresBeforeWarning can't be highe": {Name: "x", Check: &api.AgentServiceCheck{TCP: "a:1", Interval: "1s", FailuresBeforeWarning: 3, FailuresBeforeCritical: 1}},
		} {
			if err := a.ServiceRegister(reg); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("want %q, got %v", name, err)
			}
		}
		if services, err := a.Services(); err != nil || len(services) != 0 {
			t.Errorf("registered although refused: %v, %v", services, err)
		}
	})
}

// Checks that the agent runs by itself.
func TestAgentRunsChecks(t *testing.T) {
	_, c := start(t, func(c *testutil.TestServerConfig) { c.EnableScriptChecks = true })
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("X-Probe") != "yes" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer web.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	want := map[string]string{}
	for id, check := range map[string]api.AgentServiceCheck{
		"http passing":    {HTTP: web.URL, Method: "POST", Header: map[string][]string{"X-Probe": {"yes"}}},
		"http warning":    {HTTP: web.URL},
		"tcp passing":     {TCP: ln.Addr().String()},
		"tcp critical":    {TCP: "127.0.0.1:1", Timeout: "1s"},
		"script passing":  {Args: []string{"sh", "-c", "echo well"}},
		"script warning":  {Args: []string{"sh", "-c", "exit 1"}},
		"script critical": {Args: []string{"/no/such/program"}},
	} {
		check.Interval = "1s"
		must(t, c.Agent().CheckRegister(&api.AgentCheckRegistration{ID: id, Name: id, AgentServiceCheck: check}))
		want[id] = strings.Fields(id)[1]
	}
	eventually(t, "every check has run", func() error {
		checks, err := c.Agent().Checks()
		if err != nil {
			return err
		}
		for id, status := range want {
			ch := checks[id]
			if ch == nil || ch.Status != status || (ch.Output == "" && id != "script warning") {
				return fmt.Errorf("%s: %+v", id, ch)
			}
		}
		return nil
	})
}

// passing is nil when n instances pass.
func passing(c *api.Client, service string, n int) error {
	entries, _, err := c.Health().Service(service, "", true, nil)
	if err == nil && len(entries) != n {
		err = fmt.Errorf("%d instances of %s pass, want %d", len(entries), service, n)
	}
	return err
}

// Join, leave, force-leave, and what the cluster says of itself.
func TestCluster(t *testing.T) {
	s1, c1 := start(t, func(c *testutil.TestServerConfig) {
		c.Autopilot = &testutil.TestAutopilotConfig{ServerStabilizationTime: "100ms"}
	})
	s2, c2 := launch(t, func(c *testutil.TestServerConfig) {
		c.Bootstrap = false
		c.Autopilot = &testutil.TestAutopilotConfig{ServerStabilizationTime: "100ms"}
	})
	must(t, c2.Agent().Join(s1.LANAddr, false))
	// Promotion is decided every ten seconds.
	eventually(t, "both vote", func() error {
		conf, err := c1.Operator().RaftGetConfiguration(nil)
		if err == nil && (len(conf.Servers) != 2 || !conf.Servers[0].Voter || !conf.Servers[1].Voter) {
			err = errors.New("not yet")
		}
		return err
	})

	leader, err := c2.Status().Leader()
	if err != nil || leader != s1.ServerAddr {
		t.Errorf("leader %q, %v; want %s", leader, err, s1.ServerAddr)
	}
	peers, err := c2.Status().Peers()
	slices.Sort(peers)
	want := []string{s1.ServerAddr, s2.ServerAddr}
	slices.Sort(want)
	if err != nil || !slices.Equal(peers, want) {
		t.Errorf("peers %q, %v; want %q", peers, err, want)
	}
	conf, err := c2.Operator().RaftGetConfiguration(nil)
	must(t, err)
	for _, server := range conf.Servers {
		if server.Leader != (server.ID == s1.Config.NodeID) || !server.Voter || !slices.Contains(want, server.Address) || server.ProtocolVersion != "3" {
			t.Errorf("%+v", server)
		}
	}
	if len(conf.Servers) != 2 || conf.Index == 0 {
		t.Errorf("%+v", conf)
	}

	must(t, c2.Agent().Leave())
	eventually(t, "one voter is left", func() error {
		conf, err := c1.Operator().RaftGetConfiguration(nil)
		if err == nil && len(conf.Servers) != 1 {
			err = fmt.Errorf("%d servers", len(conf.Servers))
		}
		return err
	})
	eventually(t, "the node that left is gone", func() error {
		nodes, _, err := c1.Catalog().Nodes(nil)
		if err == nil && len(nodes) != 1 {
			err = fmt.Errorf("%d nodes", len(nodes))
		}
		return err
	})
	eventually(t, "it has left", func() error { return memberIs(c1, s2.Config.NodeName, 3) })
	must(t, c1.Agent().ForceLeavePrune(s2.Config.NodeName))
	eventually(t, "it is pruned", func() error {
		err := memberIs(c1, s2.Config.NodeName, 0)
		if errors.Is(err, errNoMember) {
			return nil
		}
		return err
	})
	if err := c1.Agent().ForceLeave("nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("force-leave of nobody: %v", err)
	}
}

var errNoMember = errors.New("no such member")

func memberIs(c *api.Client, name string, status int) error {
	members, err := c.Agent().Members(false)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Name == name {
			if m.Status != status {
				return fmt.Errorf("status %d, want %d", m.Status, status)
			}
			return nil
		}
	}
	return errNoMember
}
