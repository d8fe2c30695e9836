// Package local holds the services and checks of one agent's node, from configuration
// files and from the HTTP API, and keeps the catalog equal to them (anti-entropy).
//
// It promises:
//
//   - A registration over HTTP is on disk before the call returns, and survives a
//     restart; so does a deregistration.
//   - A change of a check's status is pushed to the servers at once, and only once. A
//     change of the output alone is pushed after about CheckUpdateInterval. Nothing is
//     pushed without a change.
//   - No call waits for a server: one goroutine of Run writes to the catalog, and
//     retries without end.
//   - A reload changes only what differs in the new definitions.
//
// The files: register.go, prepare.go, deregister.go and reload.go change the set of
// services and checks; running.go runs the checks; persist.go and load.go save and load
// registrations; sync.go, compare.go and push.go update the catalog.
package local

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/agent/check"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// Catalog is the cluster's catalog; *client.Client implements it. Each call ends when its
// context ends. The receiver may keep its arguments.
type Catalog interface {
	CatalogRegister(ctx context.Context, r *api.CatalogRegistration) error
	CatalogDeregister(ctx context.Context, d *api.CatalogDeregistration) error
	// NodeServices returns nil for an unknown node.
	NodeServices(ctx context.Context, node string, o *client.Options) (*api.NodeServices, client.Meta, error)
	HealthNode(ctx context.Context, node string, o *client.Options) ([]*api.HealthCheck, client.Meta, error)
}

// Config has the settings of a State.
type Config struct {
	Node    api.Node // ID, Node (the name), Address, Datacenter, TaggedAddresses, Meta
	DataDir string   // "": nothing is saved
	Catalog Catalog
	Logger  *slog.Logger

	// CheckUpdateInterval is about how long a change of a check's output alone waits until
	// it is pushed; 0 is not at all.
	CheckUpdateInterval time.Duration
	CheckOutputMaxSize  int  // bytes
	DiscardCheckOutput  bool // see SetDiscardCheckOutput

	EnableScriptChecks      bool // allows script checks from the HTTP API and from files
	EnableLocalScriptChecks bool // allows script checks from files

	ClusterSize func() int // number of members
}

// Options are options of a registration.
type Options struct {
	FromConfig            bool // from a configuration file, so it is not saved
	ReplaceExistingChecks bool // removes the service's checks that are not in the registration
}

// State is the agent's own services and checks. Its methods may be called at
// any time, before, during and after Run, from any goroutine. Run is called
// once.
type State struct {
	cfg Config
	log *slog.Logger

	// disk serialises changes of the set, so that files and memory change in the same
	// order. It is locked before mu and held during file I/O; mu is never held there.
	disk sync.Mutex

	mu           sync.Mutex // guards the fields below
	node         nodeEntry
	services     map[string]*service
	checks       map[string]*checkEntry
	goneServices map[string]bool   // to be deregistered in the catalog
	goneChecks   map[string]string // likewise, with the service each belonged to
	version      uint64            // raised by every visible change
	changed      chan struct{}     // closed and replaced when version is raised
	running      context.Context   // nil unless Run runs
	discard      bool              // discard_check_output
	wg           sync.WaitGroup    // the checks that run; Add only while running

	dirty chan struct{} // holds one token when something is to be pushed
	soon  chan struct{} // holds one token when SyncSoon was called
}

// mark compares the revision of an object with the one that was last pushed to the catalog.
type mark struct{ rev, pushed uint64 }

func (m *mark) touch()               { m.rev++ }
func (m *mark) setPushed(rev uint64) { m.pushed = rev }
func (m *mark) isDirty() bool        { return m.rev != m.pushed }

type nodeEntry struct {
	mark
	api.Node
}

type service struct {
	mark
	def        *api.NodeService // immutable; replaced on a change
	tags       []string         // as registered; def may have tags that were edited in the catalog
	token      string
	fromConfig bool
}

// New makes an empty state.
func New(cfg Config) *State {
	return &State{
		cfg:          cfg,
		log:          cfg.Logger,
		node:         nodeEntry{Node: cfg.Node, mark: mark{rev: 1}},
		services:     map[string]*service{},
		checks:       map[string]*checkEntry{},
		goneServices: map[string]bool{},
		goneChecks:   map[string]string{},
		changed:      make(chan struct{}),
		dirty:        make(chan struct{}, 1),
		soon:         make(chan struct{}, 1),
		discard:      cfg.DiscardCheckOutput,
	}
}

// Run runs the checks and keeps the catalog in step until ctx ends. It returns
// after everything it started has ended.
func (s *State) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.running = ctx
	for _, e := range s.checks {
		s.startCheck(e)
	}
	s.mu.Unlock()

	var loops sync.WaitGroup
	loops.Go(func() { s.syncLoop(ctx) })
	loops.Go(func() { s.reapLoop(ctx) })
	<-ctx.Done()
	loops.Wait()

	s.mu.Lock()
	s.running = nil
	for _, e := range s.checks {
		s.stopCheck(e)
		e.cancelDeferred()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Services returns a copy of the services by id.
func (s *State) Services() map[string]*api.AgentService {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*api.AgentService, len(s.services))
	for id, svc := range s.services {
		d := cloneService(svc.def)
		out[id] = &api.AgentService{
			Kind: d.Kind, ID: d.ID, Service: d.Service, Tags: d.Tags, Meta: d.Meta, Port: d.Port,
			Address: d.Address, SocketPath: d.SocketPath, TaggedAddresses: d.TaggedAddresses,
			Weights: d.Weights, EnableTagOverride: d.EnableTagOverride, Datacenter: s.node.Datacenter,
		}
	}
	return out
}

// Checks returns a copy of the checks by id.
func (s *State) Checks() map[string]*api.HealthCheck {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*api.HealthCheck, len(s.checks))
	for id, e := range s.checks {
		out[id] = cloneHealth(&e.health)
	}
	return out
}

// SetDiscardCheckOutput says whether the output of checks is dropped from now on.
func (s *State) SetDiscardCheckOutput(discard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = discard
}

// SyncSoon asks for a full comparison with the catalog within seconds: a server
// or a leader appeared.
func (s *State) SyncSoon() { signal(s.soon) }

// Stats returns the section "agent" of /v1/agent/self.
func (s *State) Stats() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	scripts, ttls := 0, 0
	for _, e := range s.checks {
		switch e.health.Type {
		case check.TypeScript:
			scripts++
		case check.TypeTTL:
			ttls++
		}
	}
	return map[string]string{
		"check_monitors": strconv.Itoa(scripts),
		"check_ttls":     strconv.Itoa(ttls),
		"checks":         strconv.Itoa(len(s.checks)),
		"services":       strconv.Itoa(len(s.services)),
	}
}

// notify wakes all who wait for a change. Called with mu held.
func (s *State) notify() {
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// Await calls ok now and after every visible change, until it returns true or ctx ends.
func (s *State) Await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// signal puts a token into a channel of capacity 1, unless one is there.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func cloneService(d *api.NodeService) *api.NodeService {
	c := *d
	c.Tags = append([]string{}, d.Tags...)
	c.Meta = maps.Clone(d.Meta)
	c.TaggedAddresses = maps.Clone(d.TaggedAddresses)
	return &c
}

func cloneHealth(h *api.HealthCheck) *api.HealthCheck {
	c := *h
	c.ServiceTags = slices.Clone(h.ServiceTags)
	return &c
}
