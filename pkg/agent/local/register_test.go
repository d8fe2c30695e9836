package local

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func TestServiceDefaults(t *testing.T) {
	s := New(testConfig(newFake()))
	must(t, s.RegisterService(&api.AgentServiceRegistration{
		Name: "web", Address: "10.0.0.1", Port: 80, Tags: []string{"a", "a"},
		Check:  &api.CheckDefinition{},
		Checks: []*api.CheckDefinition{{TTL: api.Duration(time.Minute)}, {CheckID: "own", Name: "mine", TTL: api.Duration(time.Hour), Status: "passing"}},
	}, Options{}))
	svc := s.Services()["web"]
	if svc.ID != "web" || svc.Weights != (api.Weights{Passing: 1, Warning: 1}) || svc.Datacenter != "dc1" || svc.Meta == nil || len(svc.Tags) != 2 {
		t.Errorf("service %+v", svc)
	}
	want := api.ServiceAddress{Address: "10.0.0.1", Port: 80}
	if len(svc.TaggedAddresses) != 2 || svc.TaggedAddresses["lan_ipv4"] != want || svc.TaggedAddresses["wan_ipv4"] != want {
		t.Errorf("tagged addresses %v", svc.TaggedAddresses)
	}
	checks := s.Checks()
	c := checks["service:web:1"]
	if c == nil || c.Name != "Service 'web' check" || c.Status != "critical" || c.Type != "ttl" || c.Interval != "" || c.Timeout != "" {
		t.Errorf("first check %+v", c)
	}
	c = checks["own"]
	if c == nil || c.Name != "mine" || c.Status != "passing" || c.ServiceName != "web" || len(c.ServiceTags) != 2 {
		t.Errorf("second check %+v", c)
	}
}

func TestTaggedAddressesByAddress(t *testing.T) {
	s := New(testConfig(newFake()))
	for addr, want := range map[string]string{"": "", "db.example": "", "10.1.1.1": "lan_ipv4", "fd00::1": "lan_ipv6"} {
		must(t, s.RegisterService(&api.AgentServiceRegistration{Name: "x", Address: addr}, Options{}))
		tagged := s.Services()["x"].TaggedAddresses
		if want == "" && len(tagged) != 0 || want != "" && (len(tagged) != 2 || tagged[want].Address != addr) {
			t.Errorf("address %q: %v", addr, tagged)
		}
	}
}

func TestServiceErrors(t *testing.T) {
	ttl := api.Duration(time.Minute)
	tagged := func(name, addr string) map[string]api.ServiceAddress {
		return map[string]api.ServiceAddress{name: {Address: addr}}
	}
	for _, c := range []struct {
		reg  api.AgentServiceRegistration
		code int
		text string
	}{
		{api.AgentServiceRegistration{ID: "x"}, 400, "Missing service name"},
		{api.AgentServiceRegistration{Name: "x", Address: "0.0.0.0"}, 400, "Invalid service address"},
		{api.AgentServiceRegistration{Name: "x", Address: "::"}, 400, "Invalid service address"},
		{api.AgentServiceRegistration{Name: "x", Address: "[::]"}, 400, "Invalid service address"},
		{api.AgentServiceRegistration{Name: "x", Weights: &api.Weights{Warning: 1}}, 400, "Invalid Weights: Passing must be greater than 0"},
		{api.AgentServiceRegistration{Name: "x", Weights: &api.Weights{Passing: 65536}}, 400, "Invalid Weights: DNS Weight must be between 0 and 65535"},
		{api.AgentServiceRegistration{Name: "x", TaggedAddresses: tagged("lan_ipv4", "::1")}, 500, `Service tagged address "lan_ipv4" must be a valid ipv4 address`},
		{api.AgentServiceRegistration{Name: "x", TaggedAddresses: tagged("wan_ipv6", "1.2.3.4")}, 500, `Service tagged address "wan_ipv6" must be a valid ipv6 address`},
		{api.AgentServiceRegistration{Name: "x", Meta: map[string]string{"a b": "c"}}, 400,
			"Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters"},
		{api.AgentServiceRegistration{Name: "x", Checks: []*api.CheckDefinition{{}}}, 400, "Invalid check: TTL must be > 0 for TTL checks"},
		{api.AgentServiceRegistration{Name: "x", Check: &api.CheckDefinition{TTL: ttl, Status: "fine"}}, 400, "Status for checks must 'passing', 'warning', 'critical'"},
		{api.AgentServiceRegistration{Name: "x", Check: &api.CheckDefinition{ScriptArgs: []string{"true"}, Interval: ttl}}, 500,
			"Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{api.AgentServiceRegistration{Name: "x", Check: &api.CheckDefinition{OSService: "cron", Interval: ttl}}, 500, "not implemented"},
	} {
		s := New(testConfig(newFake()))
		wantError(t, s.RegisterService(&c.reg, Options{}), c.code, c.text)
		if len(s.Services())+len(s.Checks()) != 0 {
			t.Errorf("%q left something behind", c.text)
		}
	}
}

func TestCheckErrors(t *testing.T) {
	ttl := api.Duration(time.Minute)
	s := New(testConfig(newFake()))
	for _, c := range []struct {
		def  api.CheckDefinition
		code int
		text string
	}{
		{api.CheckDefinition{ID: "x", TTL: ttl}, 400, "Missing check name"},
		{api.CheckDefinition{Name: "x", TTL: ttl, Status: "fine"}, 400, "Bad check status"},
		{api.CheckDefinition{Name: "x", TTL: ttl, Interval: ttl}, 400, "Invalid check: Interval and TTL cannot both be specified"},
		{api.CheckDefinition{Name: "x", TTL: ttl, ServiceID: "nope"}, 404, `ServiceID "nope" does not exist`},
		{api.CheckDefinition{Name: "x", GRPC: "a:1", Interval: ttl}, 500, "grpc checks are not implemented: use script, http, tcp, udp, ttl or alias"},
	} {
		wantError(t, s.RegisterCheck(&c.def, Options{}), c.code, c.text)
	}
	wantError(t, s.DeregisterCheck("x"), 404, `Unknown check ID "x". Ensure that the check ID is passed, not the check name.`)
	wantError(t, s.DeregisterService("x"), 404, `Unknown service ID "x". Ensure that the service ID is passed, not the service name.`)
	wantError(t, s.SetServiceMaintenance("x", true, ""), 404, `Unknown service ID "x". Ensure that the service ID is passed, not the service name.`)
	wantError(t, s.UpdateTTL("x", "passing", ""), 404, `Unknown check ID "x". Ensure that the check ID is passed, not the check name.`)
	wantError(t, s.UpdateTTL("x", "fine", ""), 400, "Invalid check status: 'fine'")
	must(t, s.RegisterCheck(&api.CheckDefinition{Name: "web", TCP: "127.0.0.1:1", Interval: ttl}, Options{}))
	wantError(t, s.UpdateTTL("web", "passing", ""), 500, `CheckID "web" does not have associated TTL`)
	if c := s.Checks()["web"]; c.Interval != "1m0s" || c.Timeout != "0s" || c.Type != "tcp" {
		t.Errorf("check %+v", c)
	}
}

func TestScriptGates(t *testing.T) {
	script := &api.CheckDefinition{Name: "x", ScriptArgs: []string{"true"}, Interval: api.Duration(time.Minute)}
	for _, c := range []struct {
		all, local bool
		fromConfig bool
		text       string
	}{
		{fromConfig: false, text: "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{fromConfig: true, text: "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"},
		{local: true, text: "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{local: true, fromConfig: true},
		{all: true},
		{all: true, fromConfig: true},
	} {
		cfg := testConfig(newFake())
		cfg.EnableScriptChecks, cfg.EnableLocalScriptChecks = c.all, c.local
		err := New(cfg).RegisterCheck(script, Options{FromConfig: c.fromConfig})
		if c.text == "" {
			must(t, err)
			continue
		}
		wantError(t, err, http.StatusInternalServerError, c.text)
	}
}

func TestReRegistration(t *testing.T) {
	s := New(testConfig(newFake()))
	reg := ttlService("web1")
	reg.Check = nil
	reg.Checks = []*api.CheckDefinition{{CheckID: "a", TTL: api.Duration(time.Hour)}, {CheckID: "b", TTL: api.Duration(time.Hour)}}
	must(t, s.RegisterService(reg, Options{}))
	must(t, s.UpdateTTL("a", "passing", "fine"))
	must(t, s.SetServiceMaintenance("web1", true, "why"))

	reg.Checks = reg.Checks[:1]
	reg.Checks[0].TTL = api.Duration(2 * time.Hour)
	reg.Tags = []string{"new"}
	must(t, s.RegisterService(reg, Options{}))
	checks := s.Checks()
	if a := checks["a"]; a.Status != "passing" || a.Output != "fine" || a.ServiceTags[0] != "new" {
		t.Errorf("a: %+v", a)
	}
	if checks["b"] == nil {
		t.Error("b is gone though nobody asked for it")
	}
	must(t, s.RegisterService(reg, Options{ReplaceExistingChecks: true}))
	checks = s.Checks()
	if checks["a"] == nil || checks["b"] != nil || checks["_service_maintenance:web1"] == nil {
		t.Errorf("after replacing: %v", checks)
	}
}

func TestMaintenance(t *testing.T) {
	s := New(testConfig(newFake()))
	must(t, s.RegisterService(ttlService("web1"), Options{}))
	must(t, s.SetNodeMaintenance(false, "")) // was not on
	must(t, s.SetNodeMaintenance(true, ""))
	must(t, s.SetNodeMaintenance(true, "another")) // keeps the first
	must(t, s.SetServiceMaintenance("web1", true, "disk"))
	node, svc := s.Checks()["_node_maintenance"], s.Checks()["_service_maintenance:web1"]
	if node.Name != "Node Maintenance Mode" || node.Status != "critical" || node.Type != "maintenance" || node.Notes != nodeMaintenanceText {
		t.Errorf("node: %+v", node)
	}
	if svc.Name != "Service Maintenance Mode" || svc.ServiceID != "web1" || svc.ServiceName != "web" || svc.Notes != "disk" {
		t.Errorf("service: %+v", svc)
	}
	must(t, s.SetNodeMaintenance(false, ""))
	must(t, s.SetServiceMaintenance("web1", false, ""))
	if n := len(s.Checks()); n != 1 {
		t.Errorf("%d checks are left", n)
	}
}

func TestTTLExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterCheck(&api.CheckDefinition{Name: "beat", TTL: api.Duration(10 * time.Second)}, Options{}))
		defer running(t, s)()
		must(t, s.UpdateTTL("beat", "passing", "up"))
		time.Sleep(9 * time.Second)
		must(t, s.UpdateTTL("beat", "passing", "up"))
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if c := f.check("beat"); c.Status != "passing" {
			t.Fatalf("expired early: %+v", c)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if c := f.check("beat"); c.Status != "critical" || c.Output != "TTL expired (last output before timeout follows): up" {
			t.Errorf("catalog has %+v", c)
		}
	})
}

func TestOutputLimits(t *testing.T) {
	cfg := testConfig(newFake())
	cfg.CheckOutputMaxSize = 8
	s := New(cfg)
	must(t, s.RegisterService(ttlService("web1"), Options{}))
	must(t, s.UpdateTTL("service:web1", "passing", strings.Repeat("x", 20)))
	if got := s.Checks()["service:web1"].Output; got != "xxxxxxxx ... (captured 8 of 20 bytes)" {
		t.Errorf("output %q", got)
	}
	cfg.DiscardCheckOutput = true
	s = New(cfg)
	must(t, s.RegisterService(ttlService("web1"), Options{}))
	must(t, s.UpdateTTL("service:web1", "passing", "x"))
	if got := s.Checks()["service:web1"]; got.Output != "" || got.Status != "passing" {
		t.Errorf("check %+v", got)
	}
}

func TestCriticalServiceIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		reg := ttlService("web1")
		reg.Check.DeregisterCriticalServiceAfter = api.Duration(time.Second) // counts as a minute
		must(t, s.RegisterService(reg, Options{}))
		defer running(t, s)()
		time.Sleep(50 * time.Second)
		must(t, s.UpdateTTL("service:web1", "warning", ""))
		time.Sleep(5 * time.Minute)
		must(t, s.UpdateTTL("service:web1", "critical", ""))
		time.Sleep(59 * time.Second)
		if s.Services()["web1"] == nil {
			t.Fatal("reaped before a minute of being critical")
		}
		time.Sleep(32 * time.Second)
		synctest.Wait()
		if s.Services()["web1"] != nil || f.service("web1") != nil {
			t.Error("not reaped")
		}
	})
}

func TestAliasFollowsItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterCheck(&api.CheckDefinition{Name: "mirror", AliasService: "web1"}, Options{}))
		defer running(t, s)()
		synctest.Wait()
		if c := s.Checks()["mirror"]; c.Status != "critical" || c.Output != "Service web1 could not be found on node " {
			t.Fatalf("%+v", c)
		}
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		must(t, s.UpdateTTL("service:web1", "passing", ""))
		synctest.Wait()
		if c := f.check("mirror"); c.Status != "passing" || c.Output != "All checks passing." {
			t.Errorf("%+v", c)
		}
		must(t, s.UpdateTTL("service:web1", "warning", "slow"))
		synctest.Wait()
		if c := f.check("mirror"); c.Status != "warning" || c.Output != `Aliased check "Service 'web' check" failing: slow` {
			t.Errorf("%+v", c)
		}
	})
}

func TestAnswersAreCopies(t *testing.T) {
	s := New(testConfig(newFake()))
	reg := ttlService("web1")
	must(t, s.RegisterService(reg, Options{}))
	reg.Tags[0], reg.Check.Name = "changed", "changed"
	s.Services()["web1"].Tags[0] = "changed"
	s.Services()["web1"].Meta["k"] = "v"
	s.Checks()["service:web1"].ServiceTags[0] = "changed"
	if svc, c := s.Services()["web1"], s.Checks()["service:web1"]; svc.Tags[0] != "a" || len(svc.Meta) != 0 || c.ServiceTags[0] != "a" || c.Name == "changed" {
		t.Errorf("%+v %+v", svc, c)
	}
}

func TestAwaitSeesEveryChange(t *testing.T) {
	s := New(testConfig(newFake()))
	asked := 0
	done := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		done <- s.Await(t.Context(), func() bool {
			if asked++; asked == 1 {
				close(first)
			}
			return len(s.Services()) == 2
		})
	}()
	<-first
	for _, name := range []string{"a", "b"} {
		if err := s.RegisterService(&api.AgentServiceRegistration{Name: name}, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil || asked > 3 {
		t.Errorf("%v after asking %d times", err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Await(ctx, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
