package raftnode

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/retry"
)

// The failover probe finds a dead leader faster than raft's timers. When a process
// dies, the kernel closes its connections and refuses new ones to its port. A follower
// that has heard nothing from its leader for a moment, and has no open connection on
// which messages arrive, dials the leader's port. If the port is refused, to it and to
// a majority of the voters, it starts an election at once instead of after about two
// seconds.
//
// A refused connection alone proves little. A firewall that rejects looks the same (ICMP
// unreachable gives the same error as a reset), and so does a listener that is closed in
// a process that lives: heartbeats still arrive on the open connections. So an open
// connection that has lately delivered something ends the probe, at the server that would
// start the election and at each server that it asks, and this is checked last before the
// election. A leader that is paused, busy or partitioned, or whose accept queue is full,
// does not refuse. One that has moved does not refuse at its new address. In these cases
// raft's timers decide.
//
// One case remains: a network that resets the connections of a living leader to a
// majority of the voters and refuses new ones. The leader has then lost its majority
// anyway. It can acknowledge no write, and it answers default reads for the lease at
// most, as it does when the timers decide.
const (
	// silenceTime is how long nothing is heard before the port is dialled. Heartbeats
	// come every 100 to 200 ms, so it is dialled in most gaps between them.
	silenceTime = 60 * time.Millisecond

	// activeTime is how recently an open connection must have delivered something for
	// its other end to count as alive, times the multiplier: more than two of the
	// longest pauses between heartbeats.
	activeTime = 500 * time.Millisecond

	// maxPause bounds the pause between probes, which doubles within one silence.
	maxPause = 2 * time.Second

	// noLeaderPause is how often a server without a leader looks for one,
	// leaderPause how often one that leads, or has too few others to ask, looks again.
	noLeaderPause = 100 * time.Millisecond
	leaderPause   = time.Second

	dialTimeout = 250 * time.Millisecond
	peerTimeout = 500 * time.Millisecond // a question to another voter

	// stagger separates the elections of the survivors, those with the newest logs
	// first: two at once would split the votes.
	stagger = 150 * time.Millisecond
)

// ProbeReport is what one voter answers when another asks it about their leader.
type ProbeReport struct {
	Refused  bool   // it follows that leader, is refused by it too, and receives nothing
	LastTerm uint64 // of its newest entry
	Last     uint64 // index of its newest entry
}

// ranksBefore says whether a server with this log should start an election before another.
func (r ProbeReport) ranksBefore(id string, other ProbeReport, otherID string) bool {
	if r.LastTerm != other.LastTerm {
		return r.LastTerm > other.LastTerm
	}
	if r.Last != other.Last {
		return r.Last > other.Last
	}
	return id < otherID
}

// leaderState is what a follower knows of its leader at one moment.
type leaderState struct {
	term      uint64
	leader    string    // id; "": no leader, or this server has no vote
	leads     bool      // this server leads
	addrs     []string  // every address that it is known by
	heard     time.Time // when it was last heard
	receiving bool      // messages arrive from some server, on connections that are open
	others    []raft.Server
	voters    int // all of them, the leader and this one included
}

func (a leaderState) same(b leaderState) bool {
	return a.term == b.term && a.leader == b.leader && a.heard.Equal(b.heard)
}

// failoverProbe watches the leader of one server.
type failoverProbe struct {
	id       string
	observe  func() leaderState
	logEnd   func() ProbeReport
	refused  func(ctx context.Context, addr string) bool
	ask      func(ctx context.Context, voter raft.Server, leader string, term uint64) (ProbeReport, error)
	campaign func() error
	logger   *slog.Logger

	silentSince time.Time // the silence that pause belongs to
	pause       time.Duration
	campaigned  uint64 // the term in which it has started an election
}

// run returns when done is closed.
func (p *failoverProbe) run(done <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helpers.Go(func() {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	})
	for retry.Sleep(ctx, p.check(ctx)) == nil {
	}
}

// check looks at the leader once, acts if it has to, and says when to look again.
func (p *failoverProbe) check(ctx context.Context) time.Duration {
	now := p.observe()
	switch {
	case now.leads, now.leader != "" && now.voters < 3:
		return leaderPause
	case now.leader == "", p.campaigned == now.term:
		return noLeaderPause
	}
	if silent := time.Since(now.heard); silent < silenceTime {
		return silenceTime - silent
	}
	if now.receiving {
		return silenceTime
	}
	if !p.silentSince.Equal(now.heard) {
		p.silentSince, p.pause = now.heard, silenceTime
	}
	if p.allRefused(ctx, now.addrs) {
		p.confirm(ctx, now)
	}
	p.pause = min(2*p.pause, maxPause)
	return p.pause
}

func (p *failoverProbe) allRefused(ctx context.Context, addrs []string) bool {
	for _, addr := range addrs {
		if !p.refused(ctx, addr) {
			return false
		}
	}
	return len(addrs) > 0
}

// confirm asks the other voters. It starts an election if a majority of the voters,
// this server included, is refused, and nothing has changed when its turn comes.
func (p *failoverProbe) confirm(ctx context.Context, before leaderState) {
	refused, ahead := p.countRefused(ctx, before)
	if refused <= before.voters/2 {
		return
	}
	if ahead > 0 {
		if retry.Sleep(ctx, time.Duration(ahead)*stagger) != nil {
			return
		}
		if refused, _ = p.countRefused(ctx, before); refused <= before.voters/2 {
			return
		}
	}
	if !p.unchanged(before) || !p.allRefused(ctx, before.addrs) || !p.unchanged(before) {
		return
	}
	p.campaigned = before.term
	p.logger.Info("the leader's port refuses connections, as other voters confirm: starting an election at once",
		"leader", before.leader, "addresses", before.addrs, "term", before.term, "silent", time.Since(before.heard), "confirmed by", refused)
	if err := p.campaign(); err != nil && ctx.Err() == nil {
		p.logger.Warn("could not start an election at once; raft's timer will", "error", err)
	}
}

// unchanged says whether the leader is as before, and nothing is received.
func (p *failoverProbe) unchanged(before leaderState) bool {
	now := p.observe()
	return now.same(before) && !now.receiving
}

// countRefused gives how many voters are refused, this one included, and how many of
// the others rank before it.
func (p *failoverProbe) countRefused(ctx context.Context, about leaderState) (refused, ahead int) {
	refused = 1
	own := p.logEnd()
	for id, other := range p.askAll(ctx, about) {
		if !other.Refused {
			continue
		}
		refused++
		if other.ranksBefore(id, own, p.id) {
			ahead++
		}
	}
	return refused, ahead
}

func (p *failoverProbe) askAll(ctx context.Context, about leaderState) map[string]ProbeReport {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	var lock sync.Mutex
	reports := map[string]ProbeReport{}
	var asking sync.WaitGroup
	for _, voter := range about.others {
		asking.Go(func() {
			answer, err := p.ask(ctx, voter, about.leader, about.term)
			if err != nil {
				p.logger.Debug("another voter does not say whether it reaches the leader", "voter", voter.ID, "error", err)
				return
			}
			lock.Lock()
			defer lock.Unlock()
			reports[string(voter.ID)] = answer
		})
	}
	asking.Wait()
	return reports
}

// portRefused dials once, without TLS. Only a refusal counts: any other outcome
// says nothing about the process behind the port.
func portRefused(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: dialTimeout, KeepAlive: -1}).DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func (s *server) failoverProbe() *failoverProbe {
	return &failoverProbe{
		id: s.cfg.ID, observe: s.observeLeader, logEnd: s.logEnd, refused: portRefused, ask: s.cfg.AskPeer, campaign: s.campaignNow, logger: s.cfg.Logger,
	}
}

// observeLeader is this server's view of its leader.
func (s *server) observeLeader() leaderState {
	state := s.raft.State()
	addr, id := s.raft.LeaderWithID()
	now := leaderState{term: s.raft.CurrentTerm(), leads: state == raft.Leader, receiving: s.receiving()}
	now.heard = s.heard(id, now.term)
	if state != raft.Follower || id == "" || id == raft.ServerID(s.cfg.ID) {
		return now
	}
	hasVote := false
	for _, server := range s.servers() {
		if server.Suffrage != raft.Voter {
			continue
		}
		now.voters++
		switch server.ID {
		case id:
		case raft.ServerID(s.cfg.ID):
			hasVote = true
		default:
			now.others = append(now.others, server)
		}
	}
	if !hasVote {
		return now
	}
	now.leader = string(id)
	now.addrs = s.addressesOf(string(id), string(addr))
	return now
}

// receiving says whether messages still arrive, from any server.
func (s *server) receiving() bool {
	return s.stream.receivedWithin(activeTime * time.Duration(s.cfg.Multiplier))
}

// heard is when a leader was last heard, even if raft has not processed the message yet.
func (s *server) heard(leader raft.ServerID, term uint64) time.Time {
	last, received := s.raft.LastContact(), s.trans.heardFrom(leader, term)
	if received.After(last) {
		return received
	}
	return last
}

// addressesOf is every address that a server may have: those that are known, the one
// in raft's configuration, and the one that gossip knows.
func (s *server) addressesOf(id string, known ...string) []string {
	for _, server := range s.servers() {
		if string(server.ID) == id {
			known = append(known, string(server.Address))
		}
	}
	if s.cfg.AddressOf != nil {
		if addr, ok := s.cfg.AddressOf(id); ok {
			known = append(known, addr)
		}
	}
	slices.Sort(known)
	return slices.DeleteFunc(slices.Compact(known), func(addr string) bool { return addr == "" })
}

// logEnd is where this server's log ends.
func (s *server) logEnd() ProbeReport {
	last := s.raft.LastIndex()
	var log raft.Log
	if err := s.log.GetLog(last, &log); err != nil {
		return ProbeReport{} // it is in a snapshot, or cannot be read: others go first
	}
	return ProbeReport{LastTerm: log.Term, Last: last}
}

// campaignNow makes raft start an election without a pre-vote, as a leader does that
// transfers its leadership.
func (s *server) campaignNow() error {
	id, addr := raft.ServerID(s.cfg.ID), raft.ServerAddress(s.cfg.Address)
	req := &raft.TimeoutNowRequest{RPCHeader: s.trans.header}
	return s.trans.TimeoutNow(id, addr, req, &raft.TimeoutNowResponse{})
}

// ProbeLeader answers another voter that is refused by the leader's port: whether this
// server is refused too, and where its log ends.
func (n *Node) ProbeLeader(ctx context.Context, leader string, term uint64) (ProbeReport, error) {
	s, done, err := n.enter()
	if err != nil {
		return ProbeReport{}, err
	}
	defer done()
	return s.probeReport(ctx, leader, term), nil
}

func (s *server) probeReport(ctx context.Context, leader string, term uint64) ProbeReport {
	report := s.logEnd()
	heardBefore := s.heard(raft.ServerID(leader), term)
	agrees := func() bool {
		_, id := s.raft.LeaderWithID() // "" once this server's own timer has run out
		return s.raft.State() != raft.Leader && s.raft.CurrentTerm() == term &&
			(id == "" || string(id) == leader) && s.heard(raft.ServerID(leader), term).Equal(heardBefore) && !s.receiving()
	}
	if s.cfg.AskPeer == nil || leader == s.cfg.ID || !agrees() {
		return report
	}
	addrs := s.addressesOf(leader)
	refused := len(addrs) > 0
	for _, addr := range addrs {
		refused = refused && portRefused(ctx, addr)
	}
	report.Refused = refused && agrees()
	return report
}
