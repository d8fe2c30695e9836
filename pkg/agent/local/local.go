// Package local is what one agent knows of itself: the services and checks of
// its own node, whether they came from configuration files or over HTTP, and
// the work that keeps the catalog equal to them (anti-entropy).
//
// It promises:
//
//   - What was registered over HTTP is on disk before the call returns, and is
//     there after a restart; what was deregistered stays so.
//   - A change of a check's status is pushed to the servers at once and once; a
//     change of its output alone only after a while; nothing is pushed when
//     nothing changed.
//   - No call waits for a server: one goroutine of Run speaks to the catalog,
//     and retries for ever.
//   - A reload touches what the new definitions change and nothing else.
//
// Names of files: register.go, prepare.go, deregister.go and reload.go change
// the set; running.go runs its checks; persist.go and load.go keep it on disk;
// sync.go, compare.go and push.go bring it to the catalog.
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

// Catalog is the cluster's catalog: *client.Client. Each call ends when its context
// does. What is passed in is the receiver's to keep.
type Catalog interface {
	CatalogRegister(ctx context.Context, r *api.CatalogRegistration) error
	CatalogDeregister(ctx context.Context, d *api.CatalogDeregistration) error
	// NodeServices returns nil for an unknown node.
	NodeServices(ctx context.Context, node string, o *client.Options) (*api.NodeServices, client.Meta, error)
	HealthNode(ctx context.Context, node string, o *client.Options) ([]*api.HealthCheck, client.Meta, error)
}

// Config is what the state of one agent starts from.
type Config struct {
	Node    api.Node // ID, Node (the name), Address, Datacenter, TaggedAddresses, Meta
	DataDir string   // "" keeps nothing on disk
	Catalog Catalog
	Logger  *slog.Logger

	// CheckUpdateInterval is about how long a change of output alone waits; 0
	// pushes it at once.
	CheckUpdateInterval time.Duration
	CheckOutputMaxSize  int  // bytes
	DiscardCheckOutput  bool // see SetDiscardCheckOutput

	EnableScriptChecks      bool // from the HTTP API and from files
	EnableLocalScriptChecks bool // from files

	ClusterSize func() int // members of the cluster
}

// Options say how a registration is meant.
type Options struct {
	FromConfig            bool // from a configuration file: not kept on disk by us
	ReplaceExistingChecks bool // the service's checks that the request lacks go
}

// State is the agent's own services and checks. Its methods may be called at
// any time, before, during and after Run, from any goroutine. Run is called
// once.
type State struct {
	cfg Config
	log *slog.Logger

	// disk serialises what changes the set, so that the files follow the same
	// order as memory. It is taken before mu and held over file I/O; mu never is.
	disk sync.Mutex

	mu           sync.Mutex // guards what follows
	node         nodeEntry
	services     map[string]*service
	checks       map[string]*checkEntry
	goneServices map[string]bool   // to be deregistered in the catalog
	goneChecks   map[string]string // likewise, with the service each belonged to
	version      uint64            // raised by every change that can be seen
	changed      chan struct{}     // closed, and replaced, with it
	running      context.Context   // nil unless Run runs
	discard      bool              // discard_check_output
	wg           sync.WaitGroup    // the checks that run; Add only while running

	dirty chan struct{} // holds one token when something is to be pushed
	soon  chan struct{} // holds one token when SyncSoon was called
}

// mark says how far the catalog knows an object.
type mark struct{ rev, pushed uint64 }

func (m *mark) touch()            { m.rev++ }
func (m *mark) settle(rev uint64) { m.pushed = rev }
func (m *mark) isDirty() bool     { return m.rev != m.pushed }

type nodeEntry struct {
	mark
	api.Node
}

type service struct {
	mark
	def        *api.NodeService // immutable; replaced on a change
	tags       []string         // as registered, while def may hold the catalog's
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

// SetDiscardCheckOutput says whether what checks find is kept beside their status
// from now on.
func (s *State) SetDiscardCheckOutput(discard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = discard
}

// SyncSoon asks for a full comparison with the catalog within seconds: a server
// or a leader appeared.
func (s *State) SyncSoon() { signal(s.soon) }

// Stats are the numbers of agent/self's section "agent".
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

// note wakes who waits for a change. Called with mu held.
func (s *State) note() {
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// Await asks ok now and after every change that can be seen, until it says yes
// or ctx ends.
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

// signal leaves one token in a channel that holds one.
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
