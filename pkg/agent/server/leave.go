package server

import (
	"context"
	"time"
)

// How long a leaving server waits for its successor and for its removal from raft's
// configuration. The cluster does not depend on either.
const (
	transferTimeout = 2 * time.Second
	removalTimeout  = 2 * time.Second
	removalCheck    = 20 * time.Millisecond
)

// Leave leaves the cluster for good: leadership goes to another server, the pool
// sees this one leave, and the new leader removes it from raft's configuration
// (unless that would cost the others their majority) and from the catalog. Run
// goes on and is to be ended by the caller.
func (s *Server) Leave(ctx context.Context) error {
	servers, _, err := s.node.Configuration()
	alone := err != nil || len(servers) < 2
	if id, _ := s.node.Leader(); id == s.cfg.NodeID && !alone {
		transfer, cancel := context.WithTimeout(ctx, transferTimeout)
		if err := s.node.TransferLeadership(transfer); err != nil {
			s.cfg.Logger.Warn("no other server takes over the leadership; leaving all the same", "error", err)
		}
		cancel()
	}
	if err := s.cfg.Pool.Leave(); err != nil {
		return err
	}
	if !alone {
		s.awaitRemoval(ctx)
	}
	return nil
}

// awaitRemoval lets raft run until the leader has removed this server, so that the others
// get its last acknowledgement and do not count it as failed.
func (s *Server) awaitRemoval(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	tick := time.NewTicker(removalCheck) // raft does not notify a follower
	defer tick.Stop()
	for s.configured() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) configured() bool {
	servers, _, err := s.node.Configuration()
	return err == nil && isConfigured(servers, s.cfg.NodeID)
}
