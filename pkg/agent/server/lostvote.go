package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/api"
)

// A server without raft state is new, or it has lost its data directory under an
// id that its configuration fixes. The second may have voted, and acknowledged
// what nobody else has; it may do neither under that id again. So whoever has
// nothing takes no part in raft before it is among those that begin a cluster, or
// it is known that the id has no vote in the one that exists (decideVote).

const (
	voterPath   = "/v1/internal/raft-voter"
	voteRetry   = time.Second
	voteTimeout = 2 * time.Second
)

var errLostVote = errors.New("this server votes in its cluster, but its data directory holds nothing")

// raftGate lets no raft stream in before it is opened.
type raftGate struct {
	net.Listener
	opened, closed       chan struct{}
	openOnce, closedOnce sync.Once
}

func newRaftGate(l net.Listener) *raftGate {
	return &raftGate{Listener: l, opened: make(chan struct{}), closed: make(chan struct{})}
}

func (g *raftGate) open() { g.openOnce.Do(func() { close(g.opened) }) }

func (g *raftGate) Accept() (net.Conn, error) {
	select {
	case <-g.opened:
		return g.Listener.Accept()
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *raftGate) Close() error {
	g.closedOnce.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// runGate opens the gate as soon as this server may take part in raft. An error is
// for good.
func (s *Server) runGate(ctx context.Context) error {
	for {
		next := s.changed.Changed()
		if has, err := s.node.HasState(); err != nil || has || s.bootstraps.Load() {
			s.gate.open()
			return nil // an error: raft has ended
		}
		votes, err := s.hasVote(ctx)
		switch {
		case err == nil && votes:
			return fmt.Errorf("%w: id %s may have voted or acknowledged what is lost now. "+
				"Restore the data directory as it was, or give this server another node_id (or none): it then joins as a new one and the old id is removed", errLostVote, s.cfg.NodeID)
		case err == nil:
			s.gate.open()
			return nil
		}
		s.cfg.Logger.Debug("not known yet whether this server has a vote in a cluster", "error", err)
		if !waitFor(ctx, next, voteRetry) {
			return nil
		}
	}
}

// hasVote asks the servers that have raft state whether this one's id has a vote. An
// error says that it cannot be known yet: see decideVote.
func (s *Server) hasVote(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, voteTimeout)
	defer cancel()
	path := voterPath + "?" + url.Values{"id": {s.cfg.NodeID}}.Encode()
	var lock sync.Mutex
	var known []string
	answers := map[string]voterAnswer{}
	var asking sync.WaitGroup
	for _, m := range s.cfg.Pool.Members() {
		srv, ok := gossip.ServerOf(m)
		if !ok || srv.ID == s.cfg.NodeID || m.Status == api.MemberLeft || srv.Tags[gossip.TagBoot] == "" || s.isForeign(m) {
			continue
		}
		known = append(known, srv.ID)
		asking.Go(func() {
			var said voterAnswer
			if s.askServer(ctx, srv.Addr, path, &said) == nil {
				lock.Lock()
				defer lock.Unlock()
				answers[srv.ID] = said
			}
		})
	}
	asking.Wait()
	return decideVote(known, answers)
}

// decideVote says whether an id has a vote, from what servers answer, by their ids.
// Anybody's yes is one: the vote may have been used while it was there. A no may come
// from one that lags, or that was removed. So it counts only from a leader that has
// proved that it leads, or from a majority of the voters in the newest configuration
// among the answers: what is newer and committed is known to one of them.
// known are the servers that have raft state; they stand for the voters where all
// answers are those of earlier versions, which do not name them.
func decideVote(known []string, answers map[string]voterAnswer) (bool, error) {
	newest := voterAnswer{Voters: known}
	for _, a := range answers {
		if a.Voter {
			return true, nil
		}
		if len(a.Voters) > 0 && a.Index >= newest.Index {
			newest = a
		}
	}
	for _, a := range answers {
		if a.Proof {
			return false, nil
		}
	}
	no := 0
	for _, id := range newest.Voters {
		if _, ok := answers[id]; ok {
			no++
		}
	}
	if len(newest.Voters) == 0 {
		return false, errors.New("no server with raft state is known")
	}
	if no <= len(newest.Voters)/2 {
		return false, fmt.Errorf("no leader says so, and only %d of %d voters do", no, len(newest.Voters))
	}
	return false, nil
}

// voterAnswer is whether an id has a vote in the newest configuration that a server has.
type voterAnswer struct {
	Voter  bool
	Proof  bool     // a majority took the server for the leader after the question
	Index  uint64   // of the newest committed configuration
	Voters []string // ids
}

// voter answers whether an id has a vote. A leader proves that it leads first: what it
// knows is then the newest there is.
func (s *Server) voter(r *http.Request) (any, error) {
	proof := s.node.IsLeader() && s.node.VerifyLeader(r.Context()) == nil
	servers, index, err := s.node.Configuration()
	if err != nil {
		return nil, err
	}
	answer := voterAnswer{Proof: proof, Index: index}
	for _, srv := range servers {
		if srv.Suffrage == raft.Voter {
			answer.Voters = append(answer.Voters, string(srv.ID))
			answer.Voter = answer.Voter || string(srv.ID) == r.URL.Query().Get("id")
		}
	}
	return answer, nil
}
