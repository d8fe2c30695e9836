package local

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func TestOneRegisterPerServiceWithItsChecksAndTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		must(t, s.RegisterCheck(&api.CheckDefinition{Name: "disk", TTL: api.Duration(time.Hour)}, Options{}))
		defer running(t, s)()

		regs, _ := f.writes()
		if len(regs) != 2 {
			t.Fatalf("%d calls of Register, want one for the node and its check, one for the service: %+v", len(regs), regs)
		}
		if regs[0].SkipNodeUpdate || !regs[1].SkipNodeUpdate {
			t.Error("the node's record goes with the first call and only with it")
		}
		if n := f.node; n.ID == "" || n.Meta["rack"] != "a" || n.TaggedAddresses["lan"] != "127.0.0.9" {
			t.Errorf("node record: %+v", n)
		}
		if regs[1].Service.ID != "web1" || len(regs[1].Checks) != 1 || regs[1].Checks[0].CheckID != "service:web1" {
			t.Errorf("service: %+v", regs[1])
		}
		if c := f.check("disk"); c == nil || c.Status != "critical" || c.Node != "n1" {
			t.Errorf("node's check: %+v", c)
		}
	})
}

func TestNodeAloneIsRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		defer running(t, New(testConfig(f)))()
		if regs, _ := f.writes(); len(regs) != 1 || f.node == nil {
			t.Fatalf("%d calls, node %v", len(regs), f.node)
		}
	})
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		must(t, s.UpdateTTL("service:web1", "passing", "fine"))
		defer running(t, s)()
		f.writes()

		for range 20 {
			must(t, s.UpdateTTL("service:web1", "passing", "fine"))
			must(t, s.RegisterService(ttlService("web1"), Options{}))
			time.Sleep(time.Minute)
			s.SyncSoon()
		}
		synctest.Wait()
		if regs, gone := f.writes(); len(regs)+len(gone) != 0 {
			t.Errorf("wrote %+v %v", regs, gone)
		}
		if f.readCount() < 10 {
			t.Errorf("compared %d times in 20 minutes", f.readCount())
		}
	})
}

func TestStatusIsPushedAtOnceAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()
		f.writes()

		before := time.Now()
		must(t, s.UpdateTTL("service:web1", "warning", "slow"))
		synctest.Wait()
		regs, _ := f.writes()
		if len(regs) != 1 || regs[0].Service != nil || len(regs[0].Checks) != 1 {
			t.Fatalf("want one call with one check, got %+v", regs)
		}
		if c := f.check("service:web1"); c.Status != "warning" || c.Output != "slow" || !time.Now().Equal(before) {
			t.Errorf("catalog has %+v after %v", c, time.Since(before))
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if regs, _ := f.writes(); len(regs) != 0 {
			t.Errorf("pushed again: %+v", regs)
		}
	})
}

func TestChangeDuringAPushIsPushedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()

		hold := make(chan struct{})
		f.set(func() { f.hold = hold })
		must(t, s.UpdateTTL("service:web1", "warning", "1"))
		synctest.Wait()
		must(t, s.UpdateTTL("service:web1", "passing", "2")) // not held up by the call in flight
		f.set(func() { f.hold = nil })
		close(hold)
		synctest.Wait()
		if c := f.check("service:web1"); c.Status != "passing" || c.Output != "2" {
			t.Errorf("catalog has %s %q", c.Status, c.Output)
		}
	})
}

func TestOutputAloneIsDeferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		must(t, s.UpdateTTL("service:web1", "passing", "0"))
		defer running(t, s)()
		f.writes()

		for range 100 { // one output a second
			must(t, s.UpdateTTL("service:web1", "passing", time.Now().String()))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if regs, _ := f.writes(); len(regs) != 0 {
			t.Fatalf("pushed %d times before half the interval was over", len(regs))
		}
		must(t, s.UpdateTTL("service:web1", "passing", "last"))
		time.Sleep(15*time.Minute/2 + time.Second) // 2.5 to 7.5 minutes
		synctest.Wait()
		if regs, _ := f.writes(); len(regs) != 1 || f.check("service:web1").Output != "last" {
			t.Errorf("%d pushes, output %q", len(regs), f.check("service:web1").Output)
		}
	})
}

func TestOutputGoesAtOnceWithoutAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := testConfig(f)
		cfg.CheckUpdateInterval = 0
		s := New(cfg)
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()
		must(t, s.UpdateTTL("service:web1", "critical", "x"))
		synctest.Wait()
		if c := f.check("service:web1"); c.Output != "x" {
			t.Errorf("output %q", c.Output)
		}
	})
}

func TestUnknownRemoteThingsAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.node = &api.Node{Node: "n1"}
		f.services["consul"] = &api.NodeService{ID: "consul"}
		f.services["stale"] = &api.NodeService{ID: "stale"}
		f.checks["serfHealth"] = &api.HealthCheck{CheckID: "serfHealth"}
		f.checks["old"] = &api.HealthCheck{CheckID: "old"}
		f.checks["of-stale"] = &api.HealthCheck{CheckID: "of-stale", ServiceID: "stale"}
		defer running(t, New(testConfig(f)))()
		_, gone := f.writes()
		if !slices.Equal(gone, []string{"service stale", "check old"}) {
			t.Errorf("deregistered %v", gone)
		}
		if f.service("consul") == nil || f.check("serfHealth") == nil {
			t.Error("removed what the leader keeps")
		}
	})
}

func TestLocalWinsOverEdits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()
		f.set(func() {
			delete(f.services, "web1")
			delete(f.checks, "service:web1")
		})
		s.SyncSoon()
		time.Sleep(soonStagger)
		synctest.Wait()
		if f.service("web1") == nil || f.check("service:web1") == nil {
			t.Fatal("a service that vanished from the catalog was not registered again within 3 s")
		}
		edited := *f.service("web1")
		edited.Port, edited.Tags = 1, []string{"b"}
		f.set(func() { f.services["web1"] = &edited })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := f.service("web1"); got.Port != 80 || got.Tags[0] != "a" {
			t.Errorf("an edit in the catalog stays: %+v", got)
		}
	})
}

func TestTagOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		reg := ttlService("web1")
		reg.EnableTagOverride = true
		must(t, s.Reload([]*api.AgentServiceRegistration{reg}, nil, testConfig(f).Node.Meta))
		defer running(t, s)()
		edited := *f.service("web1")
		edited.Tags = []string{"edited"}
		f.set(func() { f.services["web1"] = &edited })
		f.writes()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		must(t, s.Reload([]*api.AgentServiceRegistration{reg}, nil, testConfig(f).Node.Meta))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if regs, _ := f.writes(); len(regs) != 0 {
			t.Errorf("pushed %+v", regs)
		}
		if got := s.Services()["web1"].Tags; !slices.Equal(got, []string{"edited"}) {
			t.Errorf("the agent has tags %v", got)
		}
	})
}

func TestRetryAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.err = api.ErrNoLeader
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()

		time.Sleep(4 * time.Second) // the first retries come after 1 to 2, then 2 to 4 seconds
		synctest.Wait()
		if f.readCount() < 2 {
			t.Errorf("%d attempts in the first 4 s", f.readCount())
		}
		time.Sleep(10 * time.Minute)
		attempts := f.readCount()
		time.Sleep(time.Minute)
		if n := f.readCount() - attempts; n < 2 || n > 4 {
			t.Errorf("%d attempts a minute later on, want one each 15 to 30 s", n)
		}
		f.set(func() { f.err = nil })
		s.SyncSoon() // a leader appeared
		synctest.Wait()
		if f.service("web1") == nil {
			t.Error("not registered as soon as there was a leader")
		}
	})
}

func TestChangesWhileFailingDoNotHammer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()
		f.set(func() { f.err, f.reads = errors.New("down"), 0 })
		for i := range 1000 {
			must(t, s.UpdateTTL("service:web1", []string{"passing", "warning"}[i%2], ""))
			time.Sleep(10 * time.Millisecond)
		}
		if f.readCount() > 11 {
			t.Errorf("%d attempts in 10 s", f.readCount())
		}
		f.set(func() { f.err = nil })
		must(t, s.UpdateTTL("service:web1", "passing", ""))
		time.Sleep(failingGap)
		synctest.Wait()
		if c := f.check("service:web1"); c.Status != "passing" {
			t.Errorf("catalog has %s", c.Status)
		}
	})
}

func TestOneBadServiceDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.refuse = "b"
		s := New(testConfig(f))
		for _, id := range []string{"a", "b", "c"} {
			must(t, s.RegisterService(ttlService(id), Options{}))
		}
		defer running(t, s)()
		if f.service("a") == nil || f.service("c") == nil {
			t.Error("the others were not registered")
		}
		f.set(func() { f.refuse = "" })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.service("b") == nil {
			t.Error("not tried again")
		}
	})
}

func TestDeregistrationStaysDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		defer running(t, s)()

		hold := make(chan struct{}) // a push of the service is under way while it is deregistered
		f.set(func() { f.hold = hold })
		must(t, s.UpdateTTL("service:web1", "warning", ""))
		synctest.Wait()
		must(t, s.DeregisterService("web1"))
		f.set(func() { f.hold = nil })
		close(hold)
		synctest.Wait()
		if f.service("web1") != nil || f.check("service:web1") != nil {
			t.Fatal("still in the catalog")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if f.service("web1") != nil || len(s.Checks()) != 0 {
			t.Error("came back")
		}
	})
}

func TestDeregistrationWhileTheCatalogIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		must(t, s.RegisterService(ttlService("web1"), Options{}))
		must(t, s.RegisterService(ttlService("web2"), Options{}))
		defer running(t, s)()
		f.set(func() { f.err = errors.New("down") })
		must(t, s.DeregisterService("web1"))
		must(t, s.DeregisterService("web2"))
		time.Sleep(time.Minute)
		again := ttlService("web2") // comes back, with another check
		again.Check.CheckID = "other"
		must(t, s.RegisterService(again, Options{}))
		f.set(func() { f.err = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if f.service("web1") != nil || f.service("web2") == nil {
			t.Errorf("catalog has %v", f.services)
		}
		if f.check("service:web2") != nil || f.check("other") == nil {
			t.Errorf("catalog has checks %v", f.checks)
		}
	})
}

func TestScale(t *testing.T) {
	for members, want := range map[int]int{0: 1, 1: 1, 128: 1, 129: 2, 256: 2, 257: 3, 512: 3, 513: 4} {
		if got := scale(members); got != want {
			t.Errorf("scale(%d) = %d, want %d", members, got, want)
		}
	}
}
