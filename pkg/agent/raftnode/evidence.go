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

// A dead leader is found by evidence, not by short timers: where a process has
// died, the kernel refuses connections to its port. A follower that hears nothing
// from its leader for a moment tries the leader's port; if that is refused, and
// so it is for a majority of the voters, it stands for election at once instead
// of after two seconds. A leader that is paused, busy, cut off, or whose queue of
// connections is full does not refuse, and neither does one that has moved and
// lives at any address it is known by: those are the timers' business.
const (
	// silence is how long nothing is heard before the port is tried. Heartbeats
	// come every 100 to 200 ms, so it is tried in most gaps between them.
	silence = 60 * time.Millisecond

	// Within one silence the pause between tries doubles, up to this.
	longestPause = 2 * time.Second

	// idlePause is how often a server without a leader looks whether it has one to
	// watch, ownPause one that leads itself, or has too few others to ask.
	idlePause = 100 * time.Millisecond
	ownPause  = time.Second

	probeTime   = 250 * time.Millisecond // a connection attempt
	witnessTime = 500 * time.Millisecond // a question to another voter

	// Survivors stand one after the other, those who know most first: two at once
	// would split the votes.
	stagger = 150 * time.Millisecond
)

// Witness is what one voter says when another asks it about their leader.
type Witness struct {
	Refused  bool   // it follows that leader, too, and is refused by it, and hears nothing
	LastTerm uint64 // of its newest entry
	Last     uint64 // index of its newest entry
}

// before says whether a server that knows this should stand before another one.
func (w Witness) before(id string, other Witness, otherID string) bool {
	if w.LastTerm != other.LastTerm {
		return w.LastTerm > other.LastTerm
	}
	if w.Last != other.Last {
		return w.Last > other.Last
	}
	return id < otherID
}

// sighting is what a follower knows of its leader at one moment.
type sighting struct {
	term   uint64
	leader string    // id; "": nobody to watch, or no right to stand
	own    bool      // this server leads
	addrs  []string  // every address that it is known by
	heard  time.Time // when it was heard last
	others []raft.Server
	voters int // all of them, the leader and this one included
}

func (a sighting) same(b sighting) bool {
	return a.term == b.term && a.leader == b.leader && a.heard.Equal(b.heard)
}

// sentinel watches the leader of one server.
type sentinel struct {
	id      string
	see     func() sighting
	place   func() Witness
	refused func(ctx context.Context, addr string) bool
	ask     func(ctx context.Context, voter raft.Server, leader string, term uint64) (Witness, error)
	stand   func() error
	logger  *slog.Logger

	quietSince time.Time     // the silence that is being looked into
	pause      time.Duration // before the next try in it
	stood      uint64        // the term in which it has stood
}

// run ends when done is closed.
func (w *sentinel) run(done <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	})
	for rest(ctx, w.look(ctx)) {
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
func (w *sentinel) look(ctx context.Context) time.Duration {
	now := w.see()
	switch {
	case now.own, now.leader != "" && now.voters < 3:
		return ownPause
	case now.leader == "", w.stood == now.term:
		return idlePause
	}
	if quiet := time.Since(now.heard); quiet < silence {
		return silence - quiet
	}
	if !w.quietSince.Equal(now.heard) {
		w.quietSince, w.pause = now.heard, silence
	}
	if w.refusedEverywhere(ctx, now.addrs) {
		w.consult(ctx, now)
	}
	w.pause = min(2*w.pause, longestPause)
	return w.pause
}

func (w *sentinel) refusedEverywhere(ctx context.Context, addrs []string) bool {
	for _, addr := range addrs {
		if !w.refused(ctx, addr) {
			return false
		}
	}
	return len(addrs) > 0
}

// consult asks the other voters, and stands if a majority is refused, this
// server included, and nothing has changed when its turn comes.
func (w *sentinel) consult(ctx context.Context, then sighting) {
	witnesses, first, own := 1, 0, w.place()
	for id, other := range w.askAll(ctx, then) {
		if !other.Refused {
			continue
		}
		witnesses++
		if other.before(id, own, w.id) {
			first++
		}
	}
	if witnesses <= then.voters/2 {
		return
	}
	if !rest(ctx, time.Duration(first)*stagger) {
		return
	}
	if !w.see().same(then) || !w.refusedEverywhere(ctx, then.addrs) || !w.see().same(then) {
		return
	}
	w.stood = then.term
	w.logger.Info("nobody listens at the leader's port any more, as others confirm: standing for election at once",
		"leader", then.leader, "addresses", then.addrs, "term", then.term, "silent", time.Since(then.heard), "witnesses", witnesses)
	if err := w.stand(); err != nil && ctx.Err() == nil {
		w.logger.Warn("could not stand for election at once; the timer will", "error", err)
	}
}

func (w *sentinel) askAll(ctx context.Context, about sighting) map[string]Witness {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	var lock sync.Mutex
	said := map[string]Witness{}
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
			said[string(voter.ID)] = answer
		})
	}
	asking.Wait()
	return said
}

// portRefused tries one bare connection. Only a refusal counts: whatever else
// happens says nothing about the process behind the port.
func portRefused(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: probeTime, KeepAlive: -1}).DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func (s *server) sentinel() *sentinel {
	return &sentinel{
		id: s.cfg.ID, see: s.sight, place: s.place, refused: portRefused, ask: s.cfg.Ask, stand: s.standNow, logger: s.cfg.Logger,
	}
}

// sight is this server's view of its leader.
func (s *server) sight() sighting {
	state := s.raft.State()
	now := sighting{term: s.raft.CurrentTerm(), heard: s.raft.LastContact(), own: state == raft.Leader}
	addr, id := s.raft.LeaderWithID()
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
func (s *server) place() Witness {
	last := s.raft.LastIndex()
	var log raft.Log
	if err := s.log.GetLog(last, &log); err != nil {
		return Witness{} // it is in a snapshot, or cannot be read: others go first
	}
	return Witness{LastTerm: log.Term, Last: last}
}

// standNow makes raft stand for election without asking first whether it should,
// as a leader does that hands over.
func (s *server) standNow() error {
	id, addr := raft.ServerID(s.cfg.ID), raft.ServerAddress(s.cfg.Address)
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: s.trans.EncodePeer(id, addr),
	}}
	return s.trans.TimeoutNow(id, addr, req, &raft.TimeoutNowResponse{})
}

// Witness answers another voter that finds the leader's port refused.
func (n *Node) Witness(ctx context.Context, leader string, term uint64) (Witness, error) {
	s, done, err := n.enter()
	if err != nil {
		return Witness{}, err
	}
	defer done()
	return s.witness(ctx, leader, term), nil
}

func (s *server) witness(ctx context.Context, leader string, term uint64) Witness {
	answer := s.place()
	before := s.raft.LastContact()
	agrees := func() bool {
		_, id := s.raft.LeaderWithID() // "" once our own timer has run out
		return s.raft.State() != raft.Leader && s.raft.CurrentTerm() == term &&
			(id == "" || string(id) == leader) && s.raft.LastContact().Equal(before)
	}
	if leader == s.cfg.ID || !agrees() {
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
