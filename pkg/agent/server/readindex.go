package server

import (
	"context"
	"net/http"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// A follower may answer for the leader once its own state holds everything that the
// leader's held at a moment after the question came: the leader's index, asked for
// then, is the read index of section 6.4 of the raft dissertation (Ongaro, 2014).
// All who wait for it share one question, which is much cheaper for both servers
// than to send each request on.
const indexPath = "/v1/internal/read-index"

const (
	// readIndexTimeout is how long the leader may take; after it the request itself
	// is sent to it, which says what is wrong.
	readIndexTimeout = 500 * time.Millisecond
	// maxLag is how long this server may lag behind the leader's answer. Raft
	// tells a follower what is committed with the next entry, or 50 ms later: then
	// the leader is quicker.
	maxLag = 2 * time.Millisecond
)

// leaderIndex is the newest entry that a leader's readers have seen.
type leaderIndex struct{ Index uint64 }

// CatchUp says whether this follower may answer a read that only the leader may
// answer, since it holds all that the leader held at a moment after the call: with
// proof, one at which a majority still took it for the leader. If not, the request
// is the leader's.
func (s *Server) CatchUp(ctx context.Context, proof bool) bool {
	if !s.started.Load() {
		return false
	}
	question := &s.index
	if proof {
		question = &s.provenIndex
	}
	index, err := question.Do(ctx)
	if err != nil {
		return false
	}
	if s.node.AppliedIndex() >= index {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, maxLag)
	defer cancel()
	return s.node.AwaitApplied(ctx, index) == nil
}

// shareIndex lets the leader be asked, until ctx ends.
func (s *Server) shareIndex(ctx context.Context) {
	s.index.Call = func() (uint64, error) { return s.askIndex(ctx, indexPath) }
	s.provenIndex.Call = func() (uint64, error) { return s.askIndex(ctx, indexPath+"?consistent") }
}

func (s *Server) askIndex(ctx context.Context, path string) (uint64, error) {
	l := s.leader()
	if l.ID == "" || l.Self {
		return 0, api.ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(ctx, readIndexTimeout)
	defer cancel()
	var at leaderIndex
	err := s.askServer(ctx, l.Addr, path, &at)
	return at.Index, err
}

// readIndex answers a follower's question.
func (s *Server) readIndex(r *http.Request) (any, error) {
	if r.URL.RawQuery != "" {
		if err := s.VerifyLeader(r.Context()); err != nil {
			return nil, err
		}
	} else if !s.Leads() {
		return nil, api.ErrNoLeader
	} else if err := s.AwaitCommitted(r.Context()); err != nil {
		return nil, err
	}
	// Readers see a state a moment before it counts as applied.
	return leaderIndex{max(s.node.AppliedIndex(), s.views.Snapshot().Index())}, nil
}

// AwaitCommitted returns once this server's state holds everything that is committed: a
// leader's answers must not be older than what a follower has shown before.
func (s *Server) AwaitCommitted(ctx context.Context) error {
	if err := s.node.AwaitCommitted(ctx); err != nil {
		return mapRaftError(err)
	}
	return nil
}
