package raftnode

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/hclogx"
	"github.com/muster-dev/muster/pkg/agent/nextcall"
	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

const (
	// timer is raft's heartbeat, election and lease time at multiplier 1. Shorter
	// ones make false elections on busy machines.
	timer = 1000 * time.Millisecond

	// rpcTimeout bounds each message to another server.
	rpcTimeout = 10 * time.Second

	// poolSize is how many idle connections are kept for each other server.
	poolSize = 3

	// reserveCheck is how often the disk is looked at while nobody writes.
	reserveCheck = 2 * time.Second

	// At the stop: callsTimeout is for the calls that are under way, transferTimeout for
	// the election of a successor (about ten milliseconds are usual; one that is stopping
	// too is never elected), closeTimeout for raft to close its connections.
	callsTimeout    = time.Second
	transferTimeout = 250 * time.Millisecond
	closeTimeout    = 2 * time.Second
)

// server is everything that lives while raft runs.
type server struct {
	cfg    Config
	fatal  *fatal
	log    *raftlog.Store
	snaps  raft.SnapshotStore
	fsm    *tracker
	stream *stream
	trans  *transport
	acks   *acks
	raft   *raft.Raft

	commitAtStart uint64
	appliedCommit atomic.Uint64 // the state machine holds all of the log up to here
	proofs        nextcall.Group[struct{}]
	batcher       *batcher

	calls    sync.WaitGroup // of the Node's methods; guarded by its mutex
	stopping bool           // likewise

	helpers sync.WaitGroup // goroutines that end with done
	done    chan struct{}  // closed when raft has stopped
}

// start opens the stores, replays what is known to be committed, and starts raft.
func start(ctx context.Context, cfg Config, fatal *fatal) (_ *server, err error) {
	s := &server{cfg: cfg, fatal: fatal, fsm: &tracker{inner: cfg.FSM, fatal: fatal}, done: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = cfg.Listener.Close()
			err = withHint(err)
		}
	}()
	if err := s.openStores(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.log.Close())
		}
	}()
	if err := s.replay(ctx); err != nil {
		return nil, err
	}
	if err := fatal.get(); err != nil {
		return nil, err
	}
	if err := s.undoHalfBootstrap(); err != nil {
		return nil, err
	}
	if err := s.startRaft(); err != nil {
		return nil, err
	}
	return s, nil
}

// undoHalfBootstrap undoes a bootstrap that was killed: raft stores term 1 before the
// first entry, and would then believe for ever that this server has state. Nothing else
// stores term 1: the first election has term 2.
func (s *server) undoHalfBootstrap() error {
	last, err := s.log.LastIndex()
	if err != nil || last > 0 || s.commitAtStart > 0 {
		return err
	}
	term, err := s.log.GetUint64([]byte(raftlog.TermKey))
	if err != nil || term != 1 {
		return err
	}
	return s.log.SetUint64([]byte(raftlog.TermKey), 0)
}

// withHint adds what helps against lost and damaged data.
func withHint(err error) error {
	if IsDamage(err) {
		return fmt.Errorf("%w; restore the data directory, or, if other servers are left, start once with -repair to rejoin them as a new server", err)
	}
	return err
}

func (s *server) openStores() error {
	if s.cfg.DataDir == "" {
		s.log, s.snaps = raftlog.Memory(), snapshots{raft.NewInmemSnapshotStore()}
		return nil
	}
	dir := filepath.Join(s.cfg.DataDir, "raft")
	log, err := raftlog.Open(dir, s.cfg.Logger)
	if err != nil {
		return err
	}
	files, err := raftlog.OpenSnapshots(dir, log.CheckSpace, s.cfg.Logger)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	s.log, s.snaps = log, snapshots{files}
	return nil
}

func (s *server) startRaft() error {
	notify := make(chan bool, 1)
	var running atomic.Pointer[raft.Raft]
	s.stream = newStream(s.cfg, s.fatal.set)
	s.acks = &acks{self: raft.ServerID(s.cfg.ID), voters: func() []raft.ServerID { return votersOf(running.Load()) }}
	s.acks.lease.lasts = s.timer()
	s.trans = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                s.stream,
		MaxPool:               poolSize,
		Timeout:               rpcTimeout,
		Logger:                hclogx.New(s.cfg.Logger),
		ServerAddressProvider: addresses{self: s.cfg, raft: running.Load},
	}), s.cfg, &running, s.acks, s.done)
	s.helpers.Go(s.trans.run)
	log := &logStore{Store: s.log, snaps: s.snaps, raft: &running, applied: s.fsm.Applied, fail: s.fatal.set}
	r, err := raft.NewRaft(s.raftConfig(notify), s.fsm, log, voteStore{s.log, s.fatal}, s.snaps, s.trans)
	if err != nil {
		s.stream.closeAll()
		_ = s.trans.Close()
		close(s.done)
		s.helpers.Wait()
		return err
	}
	running.Store(r)
	s.raft = r
	s.proofs.Call = s.prove
	s.batcher = &batcher{submit: s.submit}
	s.helpers.Go(func() { newLeaderNotifier(notify, s.cfg.OnLeader).run(s.done) })
	s.helpers.Go(s.persistCommitIndex)
	s.helpers.Go(s.maintainReserve)
	if s.cfg.AskPeer != nil {
		s.helpers.Go(func() { s.failoverProbe().run(s.done) })
	}
	s.electSingleVoter()
	return nil
}

// servers are those of raft's newest configuration.
func (s *server) servers() []raft.Server {
	return s.raft.GetConfiguration().Configuration().Servers
}

// timer is raft's heartbeat, election and lease time here.
func (s *server) timer() time.Duration { return timer * time.Duration(s.cfg.Multiplier) }

func (s *server) raftConfig(notify chan<- bool) *raft.Config {
	t := s.timer()
	c := raft.DefaultConfig() // pre-vote is on in it
	c.LocalID = raft.ServerID(s.cfg.ID)
	c.HeartbeatTimeout = t + time.Millisecond // see electSingleVoter
	c.ElectionTimeout = t + time.Millisecond
	c.LeaderLeaseTimeout = t
	c.SnapshotThreshold = s.cfg.SnapshotThreshold
	c.SnapshotInterval = s.cfg.SnapshotInterval
	c.TrailingLogs = s.cfg.TrailingLogs
	c.ShutdownOnRemove = false        // who was removed may be added again
	c.NoSnapshotRestoreOnStart = true // replay has done it
	c.BatchApplyCh = true             // the entries of a batch are stored together
	c.NoLegacyTelemetry = true
	c.NotifyCh = notify
	c.Logger = hclogx.New(s.cfg.Logger)
	return c
}

// maintainReserve makes the disk reserve again when there is space, and reports a full
// disk: a follower refuses no proposal, so nobody would notice.
func (s *server) maintainReserve() {
	for s.sleep(reserveCheck) {
		full := 0
		if s.log.CheckSpace() != nil { // it logs when that begins and when it ends
			full = 1
		}
		metrics.SetGauge([]string{"raft", "disk", "full"}, float32(full))
	}
}

// electSingleVoter starts an election at once if this server is the only voter. Its timer
// would run for a whole heartbeat timeout first, though no leader exists that it could
// hear. Setting a shorter timeout ends that wait. Raft refuses a timeout below the lease,
// so the timers begin a millisecond longer than they have to be.
func (s *server) electSingleVoter() {
	voters, me := 0, false
	for _, server := range s.servers() {
		if server.Suffrage == raft.Voter {
			voters++
			me = me || server.ID == raft.ServerID(s.cfg.ID)
		}
	}
	if voters != 1 || !me {
		return
	}
	t := s.timer()
	rc := s.raft.ReloadableConfig()
	rc.HeartbeatTimeout, rc.ElectionTimeout = t, t
	if err := s.raft.ReloadConfig(rc); err != nil {
		s.cfg.Logger.Warn("the first election has to wait for its timer", "err", err)
	}
}

// stop ends everything in the order of dependence: calls, leadership, raft and its
// connections, the transport, the stores.
func (s *server) stop() error {
	waitFor(&s.calls, callsTimeout) // raft never answers some of those that its shutdown interrupts
	s.transferLeadership()
	stopped := s.raft.Shutdown()
	s.stream.closeAll()    // otherwise raft waits for answers that nobody needs
	err := stopped.Error() // closes the transport, too
	s.trans.CloseStreams()
	if !waitFor(&s.stream.conns, closeTimeout) {
		s.cfg.Logger.Warn("raft did not close its connections in time", "waited", closeTimeout)
	}
	close(s.done)
	s.helpers.Wait()
	s.calls.Wait()
	s.proofs.Stop()
	if err := errors.Join(err, s.log.Close()); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

// transferLeadership gives the leadership to another voter before the stop, so that the
// others need not wait for their timers.
func (s *server) transferLeadership() {
	if s.raft.State() != raft.Leader {
		return
	}
	for _, server := range s.servers() {
		if server.Suffrage == raft.Voter && server.ID != raft.ServerID(s.cfg.ID) {
			transfer := s.raft.LeadershipTransfer()
			over := make(chan error, 1)
			s.helpers.Go(func() { over <- transfer.Error() }) // raft's end is its end at the latest
			select {
			case err := <-over:
				if err != nil {
					s.cfg.Logger.Warn("could not hand over the leadership before the stop", "err", err)
				}
			case <-time.After(transferTimeout):
				s.cfg.Logger.Warn("nobody took over the leadership before the stop", "waited", transferTimeout)
			}
			return
		}
	}
}
