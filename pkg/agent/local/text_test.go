package local

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// wire is a catalog behind JSON, as the real one is.
type wire struct{ *fakeCatalog }

func (w wire) CatalogRegister(ctx context.Context, reg *api.CatalogRegistration) error {
	text, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	var arrived api.CatalogRegistration
	if err := json.Unmarshal(text, &arrived); err != nil {
		return err
	}
	return w.fakeCatalog.CatalogRegister(ctx, &arrived)
}

// TestTextThatIsNoUTF8IsPushedOnce, wherever it comes from: what JSON changes on its
// way differed from ours for ever.
func TestTextThatIsNoUTF8IsPushedOnce(t *testing.T) {
	const raw = "\xff caf\xc3"
	for name, put := range map[string]func(*State) error{
		"ttl output": func(s *State) error {
			must(t, s.RegisterCheck(&api.CheckDefinition{Name: "c", TTL: api.Duration(24 * time.Hour)}, Options{}))
			return s.UpdateTTL("c", api.HealthPassing, raw)
		},
		"probe output": func(s *State) error {
			must(t, s.RegisterCheck(&api.CheckDefinition{Name: "c", TTL: api.Duration(24 * time.Hour)}, Options{}))
			e := s.checks["c"]
			e.ttl().Resume("", time.Now()) // over, as a probe's report needs it
			s.report(e, e.runner, api.HealthWarning, raw)
			e.ttl().Resume(raw, time.Now().Add(24*time.Hour))
			return nil
		},
		"maintenance":  func(s *State) error { return s.SetNodeMaintenance(true, raw) },
		"service meta": func(s *State) error { return s.RegisterService(textService(raw), Options{}) },
		"from a file": func(s *State) error {
			return s.Reload([]*api.AgentServiceRegistration{textService(raw)}, nil, s.cfg.Node.Meta)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				cfg := testConfig(f)
				cfg.Catalog = wire{f}
				s := New(cfg)
				must(t, put(s))
				stop := running(t, s)
				defer stop()
				time.Sleep(time.Hour) // of the bubble's clock: dozens of comparisons
				synctest.Wait()
				f.mu.Lock()
				defer f.mu.Unlock()
				if n := len(f.registers); n == 0 || n > 2 {
					t.Errorf("registered %d times", n)
				}
				if f.reads < 10 {
					t.Errorf("compared %d times", f.reads)
				}
			})
		})
	}
}

func textService(text string) *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{
		Name: "web", Tags: []string{text}, Meta: map[string]string{"k": text},
		Check: &api.CheckDefinition{TTL: api.Duration(24 * time.Hour), Notes: text},
	}
}
