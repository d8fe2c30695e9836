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
)

// A dead leader is found by evidence, not by short timers. Where a process has died,
// its connections have ended and the kernel refuses new ones to its port. A follower
// that hears nothing from its leader for a moment, on no connection that is still
// open, tries the leader's port; if that is refused, and so it is for a majority of
// the voters, it stands for election at once instead of after two seconds.
//
// A refusal alone says little: a firewall that rejects (ICMP unreachable is the same
// error as a reset), or a listener that is closed in a process that lives, refuses
// too, while heartbeats still flow on the connections that are open. So nobody is
// deposed whose messages still come: a connection that has brought something lately
// and is open ends the matter, at the one that would stand and at every witness,
// and is looked at last before it stands. A leader that is paused, busy, cut off, or
// whose queue of connections is full does not refuse, and neither does one that has
// moved and lives at any address it is known by: those are the timers' business.
//
// What remains: a network that at once resets the connections of a living leader to
// a majority of the voters and refuses new ones to them looks as its death does. It
// has lost its majority then in any case; what it still acknowledges, nothing, and
// what it still answers, for the lease at most, is the same as with the timers.
const (
	// silence is how long nothing is heard before the port is tried. Heartbeats
	// come every 100 to 200 ms, so it is tried in most gaps between them.
	silenceTime = 60 * time.Millisecond

	// flowTime is how lately an open connection must have brought something for its
	// other end to count as alive, times the multiplier: over two of the longest
	// pauses between heartbeats.
	activeTime = 500 * time.Millisecond

	// Within one silence the pause between tries doubles, up to this.
	maxPause = 2 * time.Second

	// idlePause is how often a server without a leader looks whether it has one to
	// watch, ownPause one that leads itself, or has too few others to ask.
	noLeaderPause = 100 * time.Millisecond
	leaderPause   = time.Second

	dialTimeout = 250 * time.Millisecond // a connection attempt
	peerTimeout = 500 * time.Millisecond // a question to another voter

	// Survivors stand one after the other, those who know most first: two at once
	// would split the votes.
	stagger = 150 * time.Millisecond
)

// Witness is what one voter says when another asks it about their leader.
type ProbeReport struct {
	Refused  bool   // it follows that leader, too, is refused by it, and hears nothing from anybody
	LastTerm uint64 // of its newest entry
	Last     uint64 // index of its newest entry
}

// before says whether a server that knows this should stand before another one.
func (w ProbeReport) ranksBefore(id string, other ProbeReport, otherID string) bool {
	if w.LastTerm != other.LastTerm {
		return w.LastTerm > other.LastTerm
	}
	if w.Last != other.Last {
		return w.Last > other.Last
	}
	return id < otherID
}

// sighting is what a follower knows of its leader at one moment.
type leaderState struct {
	term      uint64
	leader    string    // id; "": nobody to watch, or no right to stand
	leads     bool      // this server leads
	addrs     []string  // every address that it is known by
	heard     time.Time // when it was heard last
	receiving bool      // somebody's messages come, on connections that are open
	others    []raft.Server
	voters    int // all of them, the leader and this one included
}

func (a leaderState) same(b leaderState) bool {
	return a.term == b.term && a.leader == b.leader && a.heard.Equal(b.heard)
}

// sentinel watches the leader of one server.
type failoverProbe struct {
	id       string
	observe  func() leaderState
	logEnd   func() ProbeReport
	refused  func(ctx context.Context, addr string) bool
	ask      func(ctx context.Context, voter raft.Server, leader string, term uint64) (ProbeReport, error)
	campaign func() error
	logger   *slog.Logger

	silentSince time.Time     // the silence that is being looked into
	pause       time.Duration // before the next try in it
	campaigned  uint64        // the term in which it has stood
}

// run ends when done is closed.
func (w *failoverProbe) run(done <-chan struct{}) {
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
	for rest(ctx, w.check(ctx)) {
	}
}

// rest returns false if ctx ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// look looks once, acts if it has to, and says when to look again.
func (w *failoverProbe) check(ctx context.Context) time.Duration {
	now := w.observe()
	switch {
	case now.leads, now.leader != "" && now.voters < 3:
		return leaderPause
	case now.leader == "", w.campaigned == now.term:
		return noLeaderPause
	}
	if silent := time.Since(now.heard); silent < silenceTime {
		return silenceTime - silent
	}
	if now.receiving {
		return silenceTime
	}
	if !w.silentSince.Equal(now.heard) {
		w.silentSince, w.pause = now.heard, silenceTime
	}
	if w.refusedEverywhere(ctx, now.addrs) {
		w.confirm(ctx, now)
	}
	w.pause = min(2*w.pause, maxPause)
	return w.pause
}

func (w *failoverProbe) refusedEverywhere(ctx context.Context, addrs []string) bool {
	for _, addr := range addrs {
		if !w.refused(ctx, addr) {
			return false
		}
	}
	return len(addrs) > 0
}

// consult asks the other voters, and stands if a majority is refused, this
// server included, and nothing has changed when its turn comes.
func (w *failoverProbe) confirm(ctx context.Context, before leaderState) {
	refused, ahead := w.countRefused(ctx, before)
	if refused <= before.voters/2 {
		return
	}
	if ahead > 0 {
		if !rest(ctx, time.Duration(ahead)*stagger) {
			return
		}
		if refused, _ = w.countRefused(ctx, before); refused <= before.voters/2 {
			return
		}
	}
	if !w.unchanged(before) || !w.refusedEverywhere(ctx, before.addrs) || !w.unchanged(before) {
		return
	}
	w.campaigned = before.term
	w.logger.Info("nobody listens at the leader's port any more, as others confirm: standing for election at once",
		"leader", before.leader, "addresses", before.addrs, "term", before.term, "silent", time.Since(before.heard), "witnesses", refused)
	if err := w.campaign(); err != nil && ctx.Err() == nil {
		w.logger.Warn("could not stand for election at once; the timer will", "error", err)
	}
}

// still says whether nothing has changed, and nothing comes.
func (w *failoverProbe) unchanged(before leaderState) bool {
	now := w.observe()
	return now.same(before) && !now.receiving
}

// count gives how many voters are refused, this one included, and how many of the
// others should stand before it.
func (w *failoverProbe) countRefused(ctx context.Context, about leaderState) (refused, ahead int) {
	refused = 1
	own := w.logEnd()
	for id, other := range w.askAll(ctx, about) {
		if !other.Refused {
			continue
		}
		refused++
		if other.ranksBefore(id, own, w.id) {
			ahead++
		}
	}
	return refused, ahead
}

func (w *failoverProbe) askAll(ctx context.Context, about leaderState) map[string]ProbeReport {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	var lock sync.Mutex
	reports := map[string]ProbeReport{}
	var asking sync.WaitGroup
	for _, voter := range about.others {
		asking.Go(func() {
			answer, err := w.ask(ctx, voter, about.leader, about.term)
			if err != nil {
				w.logger.Debug("another voter does not say whether it reaches the leader", "voter", voter.ID, "error", err)
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

// portRefused tries one bare connection. Only a refusal counts: whatever else
// happens says nothing about the process behind the port.
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

// sight is this server's view of its leader.
func (s *server) observeLeader() leaderState {
	state := s.raft.State()
	addr, id := s.raft.LeaderWithID()
	now := leaderState{term: s.raft.CurrentTerm(), leads: state == raft.Leader, receiving: s.receiving()}
	now.heard = s.heard(id, now.term)
	if state != raft.Follower || id == "" || id == raft.ServerID(s.cfg.ID) {
		return now
	}
	mayStand := false
	var configured raft.ServerAddress
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		if server.ID == id {
			configured = server.Address
		}
		if server.Suffrage != raft.Voter {
			continue
		}
		now.voters++
		switch server.ID {
		case id:
		case raft.ServerID(s.cfg.ID):
			mayStand = true
		default:
			now.others = append(now.others, server)
		}
	}
	if !mayStand {
		return now
	}
	now.leader = string(id)
	now.addrs = s.addressesOf(string(id), string(addr), string(configured))
	return now
}

// flows says whether messages still come, from whomever.
func (s *server) receiving() bool {
	return s.stream.receivedWithin(activeTime * time.Duration(s.cfg.Multiplier))
}

// heard is when a leader was heard last, also if raft has not had time for it yet.
func (s *server) heard(leader raft.ServerID, term uint64) time.Time {
	last, came := s.raft.LastContact(), s.trans.heardFrom(leader, term)
	if came.After(last) {
		return came
	}
	return last
}

// addressesOf is every address that may be the leader's: what it said itself,
// where gossip sees it, and what the configuration says.
func (s *server) addressesOf(id string, known ...string) []string {
	if s.cfg.AddressOf != nil {
		if addr, ok := s.cfg.AddressOf(id); ok {
			known = append(known, addr)
		}
	}
	slices.Sort(known)
	return slices.DeleteFunc(slices.Compact(known), func(addr string) bool { return addr == "" })
}

// place is where this server's log ends.
func (s *server) logEnd() ProbeReport {
	last := s.raft.LastIndex()
	var log raft.Log
	if err := s.log.GetLog(last, &log); err != nil {
		return ProbeReport{} // it is in a snapshot, or cannot be read: others go first
	}
	return ProbeReport{LastTerm: log.Term, Last: last}
}

// standNow makes raft stand for election without asking first whether it should,
// as a leader does that hands over.
func (s *server) campaignNow() error {
	id, addr := raft.ServerID(s.cfg.ID), raft.ServerAddress(s.cfg.Address)
	req := &raft.TimeoutNowRequest{RPCHeader: s.trans.header}
	return s.trans.TimeoutNow(id, addr, req, &raft.TimeoutNowResponse{})
}

// Witness answers another voter that finds the leader's port refused.
func (n *Node) ProbeLeader(ctx context.Context, leader string, term uint64) (ProbeReport, error) {
	s, done, err := n.enter()
	if err != nil {
		return ProbeReport{}, err
	}
	defer done()
	return s.probeReport(ctx, leader, term), nil
}

func (s *server) probeReport(ctx context.Context, leader string, term uint64) ProbeReport {
	answer := s.logEnd()
	heardBefore := s.heard(raft.ServerID(leader), term)
	agrees := func() bool {
		_, id := s.raft.LeaderWithID() // "" once our own timer has run out
		return s.raft.State() != raft.Leader && s.raft.CurrentTerm() == term &&
			(id == "" || string(id) == leader) && s.heard(raft.ServerID(leader), term).Equal(heardBefore) && !s.receiving()
	}
	if s.cfg.AskPeer == nil || leader == s.cfg.ID || !agrees() {
		return answer
	}
	addr, _ := s.addressOf(leader)
	addrs := s.addressesOf(leader, string(addr))
	refused := len(addrs) > 0
	for _, addr := range addrs {
		refused = refused && portRefused(ctx, addr)
	}
	answer.Refused = refused && agrees()
	return answer
}
