package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/api"
)

// A server without raft state is new, or it has lost its data directory while its
// configuration fixes its id. The latter may have voted, and may have acknowledged what
// no other server has; it must do neither again under that id. So a server without state
// takes no part in raft until it is among those that found a cluster, or it is known that
// its id has no vote in the existing one (decideVote).

const (
	voteRetry   = time.Second
	voteTimeout = 2 * time.Second
)

var errLostVote = errors.New("this server votes in its cluster, but its data directory holds nothing")

// raftGate is raft's listener. It accepts no connection before it is opened.
type raftGate struct {
	net.Listener
	opened, closed chan struct{}
	open, shut     func()
}

func newRaftGate(l net.Listener) *raftGate {
	g := &raftGate{Listener: l, opened: make(chan struct{}), closed: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	g.shut = sync.OnceFunc(func() { close(g.closed) })
	return g
}

func (g *raftGate) Accept() (net.Conn, error) {
	select {
	case <-g.opened:
		return g.Listener.Accept()
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *raftGate) Close() error {
	g.shut()
	return g.Listener.Close()
}

// runGate opens the gate as soon as this server may take part in raft. An error is
// final.
func (s *Server) runGate(ctx context.Context) error {
	for {
		changed := s.changed.Changed()
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
		if !waitFor(ctx, changed, voteRetry) {
			return nil
		}
	}
}

// hasVote asks the servers that have raft state whether this server's id has a vote. An
// error means that it cannot be known yet: see decideVote.
func (s *Server) hasVote(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, voteTimeout)
	defer cancel()
	path := httpapi.VoterPath + "?" + url.Values{"id": {s.cfg.NodeID}}.Encode()
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

// decideVote decides whether an id has a vote, from the answers of other servers by their ids.
// A single yes is enough: the vote may have been used while it existed. A no may come
// from a server that lags, or was removed. So it counts only from a leader that has
// proved its leadership, or from a majority of the voters in the newest configuration
// among the answers: one of them knows any later committed configuration. known are the
// servers that have raft state; they are taken as the voters if all answers are those of
// earlier versions, which do not name the voters.
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

// voterAnswer says whether an id has a vote in the newest configuration that a server has.
type voterAnswer struct {
	Voter  bool
	Proof  bool     // a majority confirmed after the question that the server leads
	Index  uint64   // of the newest committed configuration
	Voters []string // ids
}

// Voter answers whether an id has a vote. A leader proves its leadership first: then its
// configuration is the newest there is.
func (s *Server) Voter(ctx context.Context, params url.Values) (any, error) {
	proof := s.node.IsLeader() && s.node.VerifyLeader(ctx) == nil
	servers, index, err := s.node.Configuration()
	if err != nil {
		return nil, err
	}
	answer := voterAnswer{Proof: proof, Index: index}
	for _, srv := range servers {
		if srv.Suffrage == raft.Voter {
			answer.Voters = append(answer.Voters, string(srv.ID))
			answer.Voter = answer.Voter || string(srv.ID) == params.Get("id")
		}
	}
	return answer, nil
}
