package server

import (
	"fmt"
	"testing"
)

// TestCatchUp: a follower that has caught up holds every write that was acknowledged
// before it was asked; whoever leads, or knows no leader, has none to catch up with.
func TestCatchUp(t *testing.T) {
	all := startCluster(t, 3)
	leader := leaderOf(t, all)
	followers := others(all, leader)
	until(t, "the followers are ready", func() bool {
		return followers[0].CatchUp(t.Context(), false) && followers[1].CatchUp(t.Context(), false)
	})
	if leader.CatchUp(t.Context(), false) {
		t.Error("a leader has caught up with itself")
	}
	for n := range 20 {
		value := fmt.Sprint(n)
		put(t, leader, "k", value)
		for i, f := range followers {
			proof := (n+i)%2 == 0
			until(t, "the follower catches up", func() bool {
				ok := f.CatchUp(t.Context(), proof)
				if got := f.get("k"); ok && got != value {
					t.Fatalf("write %d, proof %v: the follower that has caught up holds %q", n, proof, got)
				}
				return ok
			})
		}
	}
	inParallel(others(all, followers[0]), (*testServer).kill)
	until(t, "the lone server knows no leader", func() bool { return followers[0].leader().ID == "" })
	for _, proof := range []bool{false, true} {
		if followers[0].CatchUp(t.Context(), proof) {
			t.Error("a server without a leader has caught up")
		}
	}
}
