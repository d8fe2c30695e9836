package local

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func restart(t *testing.T, cfg Config) *State {
	t.Helper()
	s := New(cfg)
	must(t, s.Load())
	return s
}

func TestRegistrationsSurviveARestart(t *testing.T) {
	cfg := testConfig(newFake())
	cfg.DataDir = filepath.Join(t.TempDir(), "new", "dir")
	cfg.EnableScriptChecks = true
	s := New(cfg)
	reg := ttlService("web1")
	reg.Token = "secret"
	reg.Weights = &api.Weights{Passing: 7, Warning: 3}
	must(t, s.RegisterService(reg, Options{}))
	must(t, s.RegisterService(ttlService("web2"), Options{}))
	must(t, s.RegisterCheck(&api.CheckDefinition{Name: "disk", ScriptArgs: []string{"true"}, Interval: api.Duration(time.Minute)}, Options{}))
	must(t, s.RegisterService(ttlService("file"), Options{FromConfig: true}))
	must(t, s.SetServiceMaintenance("web1", true, "why"))
	must(t, s.UpdateTTL("service:web1", "passing", "kept"))
	must(t, s.DeregisterService("web2"))

	again := restart(t, cfg)
	if got := again.Services(); len(got) != 1 || !sameJSON(got["web1"], s.Services()["web1"]) {
		t.Errorf("services %+v, want %+v", got, s.Services()["web1"])
	}
	want := s.Checks()
	delete(want, "service:file")
	if got := again.Checks(); !sameJSON(got, want) {
		t.Errorf("checks %+v, want %+v", got, want)
	}
	if again.services["web1"].token != "secret" {
		t.Error("the token is lost")
	}

	must(t, again.DeregisterService("web1"))
	must(t, again.DeregisterCheck("disk"))
	if files := savedFiles(t, cfg.DataDir); len(files) != 0 {
		t.Errorf("files are left: %v", files)
	}
	if last := restart(t, cfg); len(last.Services())+len(last.Checks()) != 0 {
		t.Error("deregistered things came back")
	}
}

func TestExpiredTTLStateIsNotRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newFake())
		cfg.DataDir = t.TempDir()
		s := New(cfg)
		must(t, s.RegisterCheck(&api.CheckDefinition{Name: "beat", TTL: api.Duration(time.Minute)}, Options{}))
		must(t, s.UpdateTTL("beat", "passing", "up"))
		time.Sleep(50 * time.Second)

		s = restart(t, cfg)
		if c := s.Checks()["beat"]; c.Status != "passing" || c.Output != "up" {
			t.Errorf("not restored: %+v", c)
		}
		stop := running(t, s)
		time.Sleep(10 * time.Second) // a restart does not prolong it
		synctest.Wait()
		if c := s.Checks()["beat"]; c.Status != "critical" {
			t.Errorf("after its time: %+v", c)
		}
		stop()
		if c := restart(t, cfg).Checks()["beat"]; c.Status != "critical" || c.Output != "" {
			t.Errorf("expired state was restored: %+v", c)
		}
	})
}

func TestConfigFileWinsOverKeptRegistration(t *testing.T) {
	cfg := testConfig(newFake())
	cfg.DataDir = t.TempDir()
	s := New(cfg)
	old := ttlService("web1")
	old.Port = 1
	must(t, s.RegisterService(old, Options{}))

	s = New(cfg)
	must(t, s.Reload([]*api.AgentServiceRegistration{ttlService("web1")}, nil, nil))
	must(t, s.Load())
	if got := s.Services()["web1"].Port; got != 80 {
		t.Errorf("port %d, want the file's", got)
	}
	if files := savedFiles(t, cfg.DataDir); len(files) != 0 {
		t.Errorf("files are left: %v", files)
	}
}

func TestDamagedFilesAreLeftAlone(t *testing.T) {
	cfg := testConfig(newFake())
	cfg.DataDir = t.TempDir()
	s := New(cfg)
	must(t, s.RegisterService(ttlService("web1"), Options{}))
	must(t, s.RegisterService(ttlService("web2"), Options{}))
	before := savedFiles(t, cfg.DataDir)
	must(t, os.WriteFile(s.path(servicesDir, "web1"), []byte(`{"Version`), 0o600))
	must(t, os.WriteFile(filepath.Join(cfg.DataDir, servicesDir, ".new-123"), []byte("half"), 0o600))

	s = restart(t, cfg)
	if got := s.Services(); got["web1"] != nil || got["web2"] == nil {
		t.Errorf("services %v", got)
	}
	if after := savedFiles(t, cfg.DataDir); !slices.Equal(before, after) {
		t.Errorf("files %v, were %v", after, before)
	}
}

func TestFailureToKeepIsToldAndChangesNothing(t *testing.T) {
	cfg := testConfig(newFake())
	cfg.DataDir = filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(cfg.DataDir, nil, 0o600)) // not a directory
	s := New(cfg)
	if err := s.RegisterService(ttlService("web1"), Options{}); err == nil {
		t.Error("no error")
	}
	if len(s.Services()) != 0 {
		t.Error("registered all the same")
	}
}

func TestReloadTouchesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := testConfig(f)
		s := New(cfg)
		same, changed, gone := ttlService("same"), ttlService("changed"), ttlService("gone")
		node := &api.CheckDefinition{ID: "node", Name: "n", TTL: api.Duration(time.Hour)}
		must(t, s.Reload([]*api.AgentServiceRegistration{same, changed, gone}, []*api.CheckDefinition{node}, cfg.Node.Meta))
		must(t, s.RegisterService(ttlService("api"), Options{}))
		defer running(t, s)()
		for _, id := range []string{"service:same", "service:changed", "service:gone", "service:api", "node"} {
			must(t, s.UpdateTTL(id, "passing", "up"))
		}
		synctest.Wait()
		f.writes()
		runners := map[string]*runner{}
		for id, e := range s.checks {
			runners[id] = e.runner
		}

		changed2 := ttlService("changed")
		changed2.Check.TTL, changed2.Port = api.Duration(2*time.Hour), 81
		must(t, s.Reload([]*api.AgentServiceRegistration{ttlService("same"), changed2}, []*api.CheckDefinition{node}, cfg.Node.Meta))
		synctest.Wait()
		regs, deregs := f.writes()
		if len(regs) != 1 || regs[0].Service.ID != "changed" || !slices.Equal(deregs, []string{"service gone"}) {
			t.Errorf("wrote %+v %v", regs, deregs)
		}
		for id, e := range s.checks {
			if restarted := e.runner != runners[id]; restarted != (id == "service:changed") {
				t.Errorf("check %s restarted: %v", id, restarted)
			}
			if e.health.Status != "passing" {
				t.Errorf("check %s is %s", id, e.health.Status)
			}
		}
		if s.Services()["api"] == nil {
			t.Error("a service registered over HTTP is gone")
		}
	})
}

func TestReloadOfMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(testConfig(f))
		defer running(t, s)()
		must(t, s.Reload(nil, nil, map[string]string{"rack": "b"}))
		synctest.Wait()
		if f.node.Meta["rack"] != "b" {
			t.Errorf("meta %v", f.node.Meta)
		}
	})
}

func TestBadReloadChangesNothing(t *testing.T) {
	s := New(testConfig(newFake()))
	must(t, s.Reload([]*api.AgentServiceRegistration{ttlService("web1")}, nil, nil))
	bad := ttlService("bad")
	bad.Address = "0.0.0.0"
	if err := s.Reload([]*api.AgentServiceRegistration{ttlService("web2"), bad}, nil, nil); err == nil {
		t.Error("no error")
	}
	orphan := &api.CheckDefinition{Name: "x", ServiceID: "web1", TTL: api.Duration(time.Hour)}
	if err := s.Reload(nil, []*api.CheckDefinition{orphan}, nil); err == nil {
		t.Error("no error for a check of a service that goes")
	}
	if got := s.Services(); len(got) != 1 || got["web1"] == nil {
		t.Errorf("services %v", got)
	}
}

// TestPowerCutTakesNoTTLStateThatWasKept: what was not fsynced may be empty after
// one. Nothing of that kind takes the place of what was.
func TestPowerCutTakesNoTTLStateThatWasKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newFake())
		cfg.DataDir = t.TempDir()
		s := New(cfg)
		must(t, s.RegisterCheck(&api.CheckDefinition{Name: "beat", TTL: api.Duration(time.Minute)}, Options{}))
		must(t, s.UpdateTTL("beat", "passing", "first"))
		for range 100 { // heartbeats, far past the time that the first had
			time.Sleep(10 * time.Second)
			must(t, s.UpdateTTL("beat", "passing", "again"))
		}
		if c := restart(t, cfg).Checks()["beat"]; c.Status != "passing" || c.Output != "again" {
			t.Errorf("after an orderly restart: %+v", c)
		}
		beats, err := filepath.Glob(filepath.Join(cfg.DataDir, statesDir, "*"+beatSuffix))
		if err != nil || len(beats) != 1 {
			t.Fatal(beats, err)
		}
		must(t, os.Truncate(beats[0], 0))
		if c := restart(t, cfg).Checks()["beat"]; c.Status != "passing" {
			t.Errorf("after a power cut: %+v", c)
		}
		must(t, s.DeregisterCheck("beat"))
		if files := savedFiles(t, cfg.DataDir); len(files) != 0 {
			t.Errorf("files are left: %v", files)
		}
	})
}
