package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/test/harness"
)

// The network parts: on the smaller side the leader, or a follower, or no server at
// all, and the agent of a lock's holder. The holder's work has ended before a rival on
// the other side begins, though there is no lock-delay to help; whoever holds a lock on
// the larger side keeps it; when all is whole again the old token lets nothing through.
func TestFaultLockCut(t *testing.T) {
	c := harness.Apart(t, 3, 2)
	for n := range rounds(2, 12) {
		lockCut(t, c, n, []string{"leader", "follower", "none"}[n%3])
	}
}

func lockCut(t *testing.T, c *cluster, n int, server string) {
	t.Helper()
	t.Logf("on the smaller side: %s", server)
	near, far := c.Agent("c1"), c.Agent("c2")
	lost, kept := newContest(c, fmt.Sprint("lost", n)), newContest(c, fmt.Sprint("kept", n))
	holder := lost.enter(near)
	was := lost.last(0)
	lost.enter(far)
	kept.enter(far)
	stays := kept.last(0)

	small := []*agent{near}
	switch server {
	case "leader":
		small = append(small, c.Leader())
	case "follower":
		small = append(small, c.Follower())
	}
	hit := proc.BootTime()
	c.Cut(small...)
	now := lost.last(was.token)
	lost.check()
	// The holder's session ends a TTL after its last renewal; a new leader begins the
	// TTL anew, when it has one.
	most := lockTTL + 5*time.Second
	if server == "leader" {
		most += lockTTL
	}
	if free := first(lost.beats(), now.token) - hit; free > most {
		t.Errorf("the lock of a holder that was cut off was free after %v, want at most %v", free, most)
	}
	c.Heal()
	if err := holder.Wait(); err == nil {
		t.Error("the tool that lost its lock ended with 0")
	}
	write := func(token uint64) (ok bool) {
		harness.Until(t, "a write at "+near.Name, func(ctx context.Context) (err error) {
			ok, err = near.KVPut(ctx, "data", []byte("x"), client.KVWrite{Fence: fmt.Sprintf("%s/.lock:%d", lost.prefix, token)}, nil)
			return err
		})
		return ok
	}
	if write(was.token) {
		t.Error("the token of the holder that was cut off lets a write through")
	}
	if !write(now.token) {
		t.Error("the new holder's token does not let a write through")
	}
	lost.check()
	if got := kept.last(0); got.token != stays.token {
		t.Errorf("a holder on the larger side lost its lock: token %d, then %d", stays.token, got.token)
	}
}
