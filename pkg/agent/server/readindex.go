package server

import (
	"context"
	"net/url"
	"time"

	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/api"
)

const (
	// readIndexTimeout is how long the leader may take. After it the request itself is
	// forwarded, and its answer says what is wrong.
	readIndexTimeout = 500 * time.Millisecond
	// maxLag is how long this server waits until it has applied the leader's index. A
	// follower learns what is committed with the next entry, or after 50 ms; in the
	// latter case the leader is faster.
	maxLag = 2 * time.Millisecond
)

// leaderIndex is the newest entry that readers at the leader can have seen.
type leaderIndex struct{ Index uint64 }

// CatchUp says whether this follower may answer a read instead of the leader: whether it
// holds all that the leader held at some moment after the call. With proof, a majority
// confirmed the leader at that moment. If not, the request has to be forwarded.
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

// shareIndex enables CatchUp, until ctx ends.
func (s *Server) shareIndex(ctx context.Context) {
	s.index.Call = func() (uint64, error) { return s.askIndex(ctx, httpapi.ReadIndexPath) }
	s.provenIndex.Call = func() (uint64, error) { return s.askIndex(ctx, httpapi.ReadIndexPath+"?consistent") }
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

// ReadIndex answers a follower's question.
func (s *Server) ReadIndex(ctx context.Context, params url.Values) (any, error) {
	if params.Has("consistent") {
		if err := s.VerifyLeader(ctx); err != nil {
			return nil, err
		}
	} else if !s.Leads() {
		return nil, api.ErrNoLeader
	} else if err := s.AwaitCommitted(ctx); err != nil {
		return nil, err
	}
	// A state is published a moment before its entry counts as applied.
	return leaderIndex{max(s.node.AppliedIndex(), s.views.Snapshot().Index())}, nil
}

// AwaitCommitted returns once this server's state holds everything that is committed: a
// leader's answer must not be older than one that a follower has given before.
func (s *Server) AwaitCommitted(ctx context.Context) error {
	if err := s.node.AwaitCommitted(ctx); err != nil {
		return mapRaftError(err)
	}
	return nil
}
