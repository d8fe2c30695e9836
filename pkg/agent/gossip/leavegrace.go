package gossip

import (
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

// leaveGrace is how long a member that failed is still shown as alive. A member that
// leaves sends two messages, that it leaves and that it is dead. A member that
// receives the second one first sees a failure until the first one arrives.
const leaveGrace = 100 * time.Millisecond

// graceList holds the failures that may still turn out to be leaves.
type graceList struct {
	since map[string]time.Time
	timer *time.Timer // fires when the oldest of them is over
}

func newGraceList() graceList {
	g := graceList{since: map[string]time.Time{}, timer: time.NewTimer(time.Hour)}
	g.timer.Stop()
	return g
}

// apply shows members that have failed just now as they were before.
func (g *graceList) apply(found []serf.Member, before *members) {
	now := time.Now()
	next := time.Duration(0)
	held := make(map[string]time.Time, len(g.since))
	for i, m := range found {
		if m.Status != serf.StatusFailed {
			continue
		}
		if was, ok := before.named(m.Name); !ok || was.Status != api.MemberAlive {
			continue
		}
		since, ok := g.since[m.Name]
		if !ok {
			since = now
		}
		left := leaveGrace - now.Sub(since)
		if left <= 0 {
			continue
		}
		found[i].Status = serf.StatusAlive
		held[m.Name] = since
		if next == 0 || left < next {
			next = left
		}
	}
	g.since = held
	if next > 0 {
		g.timer.Reset(next)
	}
}
