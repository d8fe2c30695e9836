// Package server is what makes an agent a server: a raft node, the replicated
// state it applies to, and the duties of the one server that leads.
//
// It promises:
//   - A write that Propose acknowledges is durable on a majority; the error of one that
//     fails says whether it was not proposed (api.ErrNoLeader) or may have been
//     (api.ErrUnknownWrite).
//   - No answer comes from an incomplete state: AwaitLeader names this server only after
//     it has applied everything committed before its election and registered itself;
//     AwaitStale returns when what was committed before the last stop is applied again.
//   - The catalog follows the gossip pool: members that are alive are registered and
//     passing, failed ones are critical, those that left are deregistered. The leader
//     proposes only differences.
//   - New servers become voters when they are stable; dead servers, and those that
//     left, are removed as long as the others keep a quorum.
//
// The files: server.go has the parts and their life; fsm.go applies raft's entries to the
// state and publishes it; reads.go and readindex.go say who may answer when; status.go
// reports on the servers. leader.go runs the leader's duties, which are in reconcile.go,
// missing.go, session.go, exec.go and autopilot.go. bootstrap.go founds a cluster;
// identity.go knows which cluster this is; level.go keeps the log readable for older
// servers; lostvote.go keeps a server that has lost its vote out of raft; repair.go
// replaces a damaged one; peers.go and digest.go are what servers ask each other.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/clusterid"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/nextcall"
	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/broadcast"
	"github.com/muster-dev/muster/pkg/logx"
)

// Pool is what a server needs of the gossip pool.
type Pool interface {
	AwaitUp(ctx context.Context) error
	Members() []api.Member
	ServerByID(id string) (gossip.Server, bool)
	Cluster() string // the id of the cluster whose servers are in the pool, "" for none
	SetTag(key, value string) error
	ForceLeave(name string, prune bool) error
	UserEvent(name string, payload []byte) error
	Leave() error
}

// Config is what a server needs to know.
type Config struct {
	NodeName   string
	NodeID     string // its raft id too
	Datacenter string
	Address    string // ip:port at which others reach the server port

	Bootstrap bool // found a cluster alone
	Expect    int  // found one together with so many servers; 1 is Bootstrap

	HoldTimeout       time.Duration // how long a request waits for a leader (rpc_hold_timeout)
	ReconcileInterval time.Duration // how often the leader compares the catalog with gossip
	// SessionTTLMultiplier is how many TTLs a session lives without renewal.
	SessionTTLMultiplier float64

	// Identity says which cluster this server belongs to. Nil: one in memory.
	Identity *clusterid.Identity
	// Joined is closed when the join of the configured servers was tried. A server that
	// founds a cluster alone waits for it. Nil: it does not.
	Joined <-chan struct{}

	// Raft is the part of the raft node's that is not this package's: DataDir, Listener,
	// Dial, and the timing.
	Raft          raftnode.Config
	NoLeaderProbe bool // no failover probe: the timers alone find a dead leader

	Autopilot Autopilot
	Pool      Pool
	Transport http.RoundTripper // HTTP/2 to other server ports

	Logger *slog.Logger
}

// Server is one server. Its methods may be called at any time from any
// goroutine; while Run does not run they find no leader.
type Server struct {
	cfg   Config
	node  *raftnode.Node
	views *view.Views
	began time.Time // set by Run before its goroutines start

	// changed is notified whenever an answer in reads.go may have changed: a leader comes
	// or goes, a batch is applied.
	changed broadcast.Signal
	// members is notified when the gossip pool has changed, or this server's cluster id.
	members broadcast.Signal

	gate       *raftGate
	bootstraps atomic.Bool                // this server is among those that found a cluster
	started    atomic.Bool                // raft runs, or has run
	ready      atomic.Pointer[leadership] // the one in which this server may answer
	caughtUp   atomic.Bool                // see AwaitStale
	pilot      atomic.Pointer[autopilotState]
	levels     levels

	index, provenIndex nextcall.Group[uint64] // see CatchUp

	leaderships chan *leadership // the newest one, for runLeaderships
	current     *leadership      // used by raft's leadership callback, after its end by Run
	missing     missingNodes     // used by the duties of the leader

	tags     chan tag
	replaces string // the id of the server that this one replaces; set by Run before its goroutines start

	logged logx.Once // see logRefused, founders and Handler
}

// New makes a server. It does nothing until Run.
func New(cfg Config) *Server {
	if cfg.Identity == nil {
		cfg.Identity, _ = clusterid.Open("", cfg.NodeID) // in memory nothing fails
	}
	store := state.New()
	s := &Server{
		cfg:         cfg,
		views:       view.New(store.Snapshot()),
		began:       time.Now(),
		leaderships: make(chan *leadership, 1),
		tags:        make(chan tag, 8),
		missing:     newMissingNodes(),
		gate:        newRaftGate(cfg.Raft.Listener),
	}
	r := cfg.Raft
	r.ID, r.Address, r.Identity, r.Logger = cfg.NodeID, cfg.Address, cfg.Identity, cfg.Logger
	r.FSM = &fsm{store: store, views: s.views, applied: s.stateChanged, fail: func(err error) { s.node.Fail(err) }}
	r.Group, r.Listener = state.Group, s.gate
	r.CheckPeer, r.AddressOf, r.OnLeader = s.checkPeer, s.addressOf, s.onLeader
	if !cfg.NoLeaderProbe {
		r.AskPeer = s.askProbe
	}
	s.node = raftnode.New(r)
	return s
}

// Run runs the raft node and, while it leads, the leader's duties. It returns
// when ctx has ended and everything has stopped, or when raft cannot go on.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.readReplaces(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	// The duties propose to raft: raft ends after them.
	raftCtx, stopRaft := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRaft()
	ended := make(chan error, 1)
	go func() {
		ended <- s.node.Run(raftCtx)
		cancel(nil)
	}()

	var duties sync.WaitGroup
	if s.node.Started(ctx) == nil { // otherwise the error is that of the node's Run
		s.startDuties(ctx, &duties)
		duties.Go(func() {
			if err := s.runGate(ctx); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	duties.Wait()
	s.index.Stop()
	s.provenIndex.Stop()
	stopRaft()
	err := <-ended
	s.endLeadership()
	s.changed.Notify()
	if cause := context.Cause(ctx); errors.Is(cause, errLostVote) {
		err = cause
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

func (s *Server) startDuties(ctx context.Context, duties *sync.WaitGroup) {
	if err := s.watchLeader(ctx, duties); err != nil {
		return // raft has ended already
	}
	if has, err := s.node.HasState(); err == nil {
		if err := s.confirmCluster(ctx, has); err != nil {
			s.node.Fail(err)
			return
		}
	}
	s.shareIndex(ctx)
	s.started.Store(true)
	s.changed.Notify()
	duties.Go(func() { s.watchCatchUp(ctx) })
	duties.Go(func() { s.runBootstrap(ctx) })
	duties.Go(func() { s.sendTags(ctx) })
	duties.Go(func() { s.runIdentities(ctx) })
	duties.Go(func() { s.runReplacing(ctx) })
	duties.Go(func() { s.runLeaderships(ctx) })
}

// MembersChanged is to be called when the gossip pool has changed. It returns at once.
func (s *Server) MembersChanged() {
	s.levels.forget()
	s.members.Notify()
	s.changed.Notify()
}

// stateChanged is called by raft with each new state.
func (s *Server) stateChanged() {
	s.checkClusterID(s.views.Snapshot())
	s.changed.Notify()
}

// Views are the views of the replicated state.
func (s *Server) Views() *view.Views { return s.views }

// watchLeader notifies changed whenever raft learns of another leader.
func (s *Server) watchLeader(ctx context.Context, duties *sync.WaitGroup) error {
	r, err := s.node.Raft()
	if err != nil {
		return err
	}
	// The observation itself is not used: if one is pending, another is dropped.
	seen := make(chan raft.Observation, 1)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(observer)
	duties.Go(func() {
		defer r.DeregisterObserver(observer)
		for {
			select {
			case <-seen:
				s.changed.Notify()
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// addressOf is the address that gossip knows of a server: one that moved is found without
// a change of raft's configuration.
func (s *Server) addressOf(id string) (string, bool) {
	srv, ok := s.cfg.Pool.ServerByID(id)
	return srv.Addr, ok && srv.Status != api.MemberLeft
}
