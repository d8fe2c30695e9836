package server

import (
	"context"
	"errors"
	"testing"
)

// A voter whose data directory is gone, and whose id its configuration fixes, must
// not vote again: not even where the others need its vote to have a leader.
func TestVoterWithoutMemoryIsRefused(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	leader := leaderOf(t, all)
	put(t, leader, "a", "1")
	rest := others(all, leader)
	lost, stays := rest[0], rest[1]
	lost.kill()
	leader.kill()

	ended := make(chan error, 1)
	again := startServer(t, testOptions{name: lost.name, dir: t.TempDir(), expect: 3, run: func(s *Server) func(context.Context) error {
		return func(ctx context.Context) error {
			ended <- s.Run(ctx)
			return nil
		}
	}})
	again.join(stays)
	if err := <-ended; !errors.Is(err, errLostVote) {
		t.Fatalf("it ended with %v", err)
	}
	if has, err := again.node.HasState(); err == nil && has {
		t.Error("it has taken part in raft")
	}
	if stays.leader().Self {
		t.Error("it was elected by a vote that cannot be")
	}
}
