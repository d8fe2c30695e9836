package local

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCatalog is a catalog of one node, which counts what it is asked.
type fakeCatalog struct {
	mu        sync.Mutex
	node      *api.Node
	services  map[string]*api.NodeService
	checks    map[string]*api.HealthCheck
	registers []*api.CatalogRegistration
	gone      []string // "service web", "check c"
	reads     int
	err       error         // every call fails with it
	refuse    string        // registering this service fails
	hold      chan struct{} // a Register waits until it is closed
}

func newFake() *fakeCatalog {
	return &fakeCatalog{services: map[string]*api.NodeService{}, checks: map[string]*api.HealthCheck{}}
}

func (f *fakeCatalog) CatalogRegister(ctx context.Context, reg *api.CatalogRegistration) error {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if reg.Service != nil && reg.Service.ID == f.refuse {
		return errors.New("refused")
	}
	f.registers = append(f.registers, reg)
	if !reg.SkipNodeUpdate {
		f.node = &api.Node{ID: reg.ID, Node: reg.Node, Address: reg.Address, TaggedAddresses: reg.TaggedAddresses, Meta: reg.NodeMeta}
	}
	if reg.Service != nil {
		f.services[reg.Service.ID] = reg.Service
	}
	for _, c := range reg.Checks {
		if c.ServiceID != "" && f.services[c.ServiceID] == nil {
			return errors.New("Unknown service ID '" + c.ServiceID + "'")
		}
		f.checks[c.CheckID] = c
	}
	return nil
}

func (f *fakeCatalog) CatalogDeregister(_ context.Context, d *api.CatalogDeregistration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if d.ServiceID == "" {
		f.gone = append(f.gone, "check "+d.CheckID)
		delete(f.checks, d.CheckID)
		return nil
	}
	f.gone = append(f.gone, "service "+d.ServiceID)
	delete(f.services, d.ServiceID)
	for id, c := range f.checks {
		if c.ServiceID == d.ServiceID {
			delete(f.checks, id)
		}
	}
	return nil
}

func (f *fakeCatalog) NodeServices(context.Context, string, *client.Options) (*api.NodeServices, client.Meta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.err != nil {
		return nil, client.Meta{}, f.err
	}
	if f.node == nil {
		return nil, client.Meta{}, nil
	}
	return &api.NodeServices{Node: f.node, Services: maps.Clone(f.services)}, client.Meta{}, nil
}

func (f *fakeCatalog) HealthNode(context.Context, string, *client.Options) ([]*api.HealthCheck, client.Meta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, client.Meta{}, f.err
	}
	return slices.Collect(maps.Values(f.checks)), client.Meta{}, nil
}

// writes returns, and forgets, what was written since the last call.
func (f *fakeCatalog) writes() (registers []*api.CatalogRegistration, gone []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	registers, gone = f.registers, f.gone
	f.registers, f.gone = nil, nil
	return registers, gone
}

func (f *fakeCatalog) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeCatalog) readCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

func (f *fakeCatalog) service(id string) *api.NodeService {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services[id]
}

func (f *fakeCatalog) check(id string) *api.HealthCheck {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.checks[id]
}

func testConfig(f *fakeCatalog) Config {
	return Config{
		Node: api.Node{
			ID: "11111111-2222-3333-4444-555555555555", Node: "n1", Address: "127.0.0.9", Datacenter: "dc1",
			TaggedAddresses: map[string]string{"lan": "127.0.0.9"}, Meta: map[string]string{"rack": "a"},
		},
		Catalog:             f,
		Logger:              logx.Discard(),
		CheckUpdateInterval: 5 * time.Minute,
		CheckOutputMaxSize:  api.MaxCheckOutput,
		ClusterSize:         func() int { return 1 },
	}
}

// running starts s inside a synctest bubble; the returned func ends it.
func running(t *testing.T, s *State) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, code int, text string) {
	t.Helper()
	var se *api.StatusError
	if !errors.As(err, &se) || se.Code != code || se.Text != text {
		t.Errorf("error is %d %q, want %d %q", codeOf(se), err, code, text)
	}
}

func codeOf(se *api.StatusError) int {
	if se == nil {
		return 0
	}
	return se.Code
}

func ttlService(id string) *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{
		ID: id, Name: "web", Port: 80, Tags: []string{"a"},
		Check: &api.CheckDefinition{TTL: api.Duration(time.Hour)},
	}
}

func savedFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, sub := range []string{servicesDir, checksDir, statesDir} {
		entries, _ := os.ReadDir(filepath.Join(dir, sub))
		for _, e := range entries {
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				out = append(out, sub+"/"+e.Name()[:8])
			}
		}
	}
	return out
}
