// Package gossip is the agent's membership in its datacenter's LAN pool: who is
// there, at what address, in what role, alive or not. It wraps hashicorp/serf.
//
// It promises:
//   - A member that stops answering is "failed" everywhere within about 2.5 s (10
//     members, 4 s at most) and never because of a pause below 2 s; one that leaves is "left"
//     within half a second and nobody sees it as failed.
//   - Members of another datacenter, servers of another cluster, and a second name
//     for a node id that is alive, are refused.
//   - The addresses of the other members lie fsynced in the data directory, so
//     that an agent that was killed finds its cluster again (Rejoin).
//   - OnChange and OnEvent are called by one goroutine, one call at a time.
//
// The methods of a Pool may be called at any time from any goroutine; before
// Run has opened the ports the pool is empty, and after it has returned it still
// shows who was there at the end.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

// Config is what one member of the pool needs to know.
type Config struct {
	NodeName   string
	NodeID     string
	Datacenter string

	// Server says that this agent is a server, whose server port is ServerPort.
	Server     bool
	ServerPort int

	Level     int               // feature level; below 1 it is 1
	Cluster   string            // id of the cluster that a server belongs to; "": none yet
	Run       string            // names this start of a server
	Build     string            // value of the build tag: version:revision
	Expect    int               // bootstrap_expect, 0 = unset
	Bootstrap bool              // bootstrap mode
	UseTLS    bool              // a CA for the server port is configured
	Tags      map[string]string // further tags; they win

	BindAddr      string // IP; "" and 0.0.0.0: every address
	BindPort      int    // 0: any free one
	AdvertiseAddr string // IP; "": BindAddr, or a private address of this machine

	EncryptKey       []byte        // 16, 24 or 32 bytes; none: no encryption
	DataDir          string        // where the peers file lies (in serf/); "": none is kept
	RejoinAfterLeave bool          // Rejoin even after a graceful leave
	ReconnectTimeout time.Duration // how long failed members are remembered
	Timing           Timing

	Logger *slog.Logger

	// OnChange is called after the membership has changed, OnEvent for every user
	// event that arrives, our own included. Both must return quickly.
	OnChange func()
	OnEvent  func(Event)

	MaxMembers int // limit of the members that are known, whatever their status

	// transport replaces the sockets in tests.
	transport memberlist.Transport
}

// Event is a user event of the pool.
type Event struct {
	Name    string
	Payload []byte
	LTime   uint64
	// Old says that it was sent before we came, as far as we can tell: some member that
	// missed us has told us of it before we had joined.
	Old bool
}

// Pool is the local end of the LAN pool.
type Pool struct {
	cfg Config

	up     chan struct{} // closed when serf runs, or Run has failed
	upOnce sync.Once
	runErr error // written before up is closed

	// life has room for one: it serialises Leave and the shutdown in Run, since
	// serf panics when they meet. A channel, because the wait may be long and
	// tests with fake time can see through it.
	lifecycle chan struct{}
	serf      atomic.Pointer[serf.Serf]

	filter   *filterTransport // written before serf
	cutoff   eventCutoff
	accepted accepted

	ownCluster atomic.Pointer[string] // the id of this server's cluster
	refusals   refusals

	background sync.WaitGroup // joins, pings and announcements that may outlive who began them

	// viewLock orders refreshes of view, with the leave grace; tagLock orders changes of tags.
	viewLock sync.Mutex
	view     atomic.Pointer[members]
	grace    graceList
	tagLock  sync.Mutex
	tags     map[string]string

	peers *peersFile
}

// ErrNotRunning is returned by calls that need the pool while Run does not run.
var ErrNotRunning = errors.New("gossip: the pool is not running")

// New makes a pool. It does nothing until Run.
func New(cfg Config) *Pool {
	p := &Pool{cfg: cfg, up: make(chan struct{}), lifecycle: make(chan struct{}, 1), tags: cfg.tags(), grace: newGraceList()}
	p.accepted = accepted{byID: map[string]string{}, at: map[string]time.Time{}}
	p.view.Store(&members{})
	p.ownCluster.Store(&cfg.Cluster)
	p.peers = newPeersFile(cfg.DataDir, cfg.NodeName)
	return p
}

// Run opens the ports and keeps up the membership until ctx ends; the others
// then see this member fail, unless Leave was called before. It returns early
// when the ports cannot be opened or the pool has thrown this member out.
func (p *Pool) Run(ctx context.Context) error {
	events := make(chan serf.Event, 256)
	s, err := p.open(events)
	if err != nil {
		p.markUp(err)
		return err
	}
	if known, _ := p.peers.read(p.cfg.RejoinAfterLeave); len(known) > 0 { // Rejoin says what is wrong
		p.cutoff.begin()
	}
	p.refresh()

	var loops sync.WaitGroup
	stop := make(chan struct{})
	loops.Go(func() { p.handleEvents(s, events, stop) })
	loops.Go(func() { p.keepPeers(stop) })
	loops.Go(func() { p.watchIsolation(s, stop) })
	p.markUp(nil)

	select {
	case <-ctx.Done():
	case <-s.ShutdownCh():
		err = fmt.Errorf("gossip: another member has the name %q and the majority believes it, not us: give one of the two another node_name", p.cfg.NodeName)
	}
	p.shutdown(s)
	close(stop)
	loops.Wait()
	p.background.Wait()
	return err
}

func (p *Pool) open(events chan serf.Event) (*serf.Serf, error) {
	if err := p.peers.prepare(); err != nil {
		return nil, err
	}
	conf, err := p.cfg.serfConfig(events)
	if err != nil {
		return nil, err
	}
	conf.Merge = mergeRules{p}
	p.tagLock.Lock() // until serf is published, so that no SetTag is lost
	defer p.tagLock.Unlock()
	conf.Tags = maps.Clone(p.tags)
	transport, err := p.cfg.listen(conf.MemberlistConfig)
	if err != nil {
		return nil, err
	}
	p.filter = newFilterTransport(transport, len(p.cfg.EncryptKey) > 0, p.view.Load)
	conf.MemberlistConfig.Transport = p.filter
	s, err := serf.Create(conf)
	if err != nil {
		_ = p.filter.Shutdown()
		return nil, fmt.Errorf("gossip: start on %s: %w", net.JoinHostPort(conf.MemberlistConfig.BindAddr, fmt.Sprint(conf.MemberlistConfig.BindPort)), err)
	}
	p.serf.Store(s)
	p.filter.open()
	return s, nil
}

func (p *Pool) markUp(err error) {
	p.upOnce.Do(func() {
		p.runErr = err
		close(p.up)
	})
}

// AwaitUp waits until Run has opened the ports, and returns its error if it
// could not.
func (p *Pool) AwaitUp(ctx context.Context) error {
	select {
	case <-p.up:
		return p.runErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Pool) running() (*serf.Serf, error) {
	if s := p.serf.Load(); s != nil {
		return s, nil
	}
	return nil, ErrNotRunning
}

// shutdown waits for a Leave that is under way.
func (p *Pool) shutdown(s *serf.Serf) {
	p.lifecycle <- struct{}{}
	defer func() { <-p.lifecycle }()
	p.serf.Store(nil)
	if err := s.Shutdown(); err != nil {
		p.cfg.Logger.Warn("could not shut the gossip pool down cleanly", "error", err)
	}
}

// Leave tells the others that we go for good: they will see us as left. It
// takes about 0.1 s; the pool goes on until the end of Run's context.
func (p *Pool) Leave() error {
	p.lifecycle <- struct{}{}
	defer func() { <-p.lifecycle }()
	s, err := p.running()
	if err != nil {
		return err
	}
	if err := p.peers.markLeft(); err != nil {
		p.cfg.Logger.Warn("could not note the leave in the peers file; the next start will rejoin", "error", err)
	}
	p.flushFor(s, leaveFlush)
	err = s.Leave()
	p.refresh()
	if err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// ForceLeave turns a failed member into one that has left; prune also forgets
// it at once.
func (p *Pool) ForceLeave(name string, prune bool) error {
	s, err := p.running()
	if err != nil {
		return err
	}
	if _, ok := p.Member(name); !ok {
		return api.Errorf(500, "agent: No node found with name '%s'", name)
	}
	if prune {
		err = s.RemoveFailedNodePrune(name)
	} else {
		err = s.RemoveFailedNode(name)
	}
	p.refresh()
	if err != nil {
		return fmt.Errorf("gossip: force %s to leave: %w", name, err)
	}
	return nil
}

// SetTag changes one tag of ours and tells the others; an empty value removes
// the tag. It may block for up to a second.
func (p *Pool) SetTag(key, value string) error {
	p.tagLock.Lock()
	defer p.tagLock.Unlock()
	if p.tags[key] == value {
		return nil
	}
	if key == TagCluster {
		p.ownCluster.Store(&value) // before anybody can hear of it
		defer p.refresh()
	}
	if value == "" {
		delete(p.tags, key)
	} else {
		p.tags[key] = value
	}
	s, err := p.running()
	if err != nil {
		return nil // Run will start with them
	}
	if err := s.SetTags(maps.Clone(p.tags)); err != nil {
		return fmt.Errorf("gossip: set tag %s: %w", key, err)
	}
	return nil
}

func (p *Pool) copyTags() map[string]string {
	p.tagLock.Lock()
	defer p.tagLock.Unlock()
	return maps.Clone(p.tags)
}

// UserEvent sends an event to every member, ourselves included. Name and
// payload together may have some 470 bytes; an error says so in serf's words,
// which users of the API match on.
func (p *Pool) UserEvent(name string, payload []byte) error {
	s, err := p.running()
	if err != nil {
		return err
	}
	return s.UserEvent(name, payload, false)
}

// Stats are the counters that /v1/agent/self shows under serf_lan.
func (p *Pool) Stats() map[string]string {
	s, err := p.running()
	if err != nil {
		return map[string]string{}
	}
	return s.Stats()
}

// How long members that are gone are remembered; see serfConfig.
const (
	forgetLeftAfter = 24 * time.Hour
)
