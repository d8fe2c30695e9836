package gossip

import (
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-dev/muster/pkg/api"
)

// doubtFor is how long a member that failed is still shown as alive. Who leaves
// says that it leaves, then that it is gone; the two travel apart, and whoever
// hears the second first takes it for a failure until the first has come.
const doubtFor = 100 * time.Millisecond

// doubts are the failures that may still turn out to be leaves.
type doubts struct {
	since map[string]time.Time
	timer *time.Timer // fires when the oldest of them is over
}

func newDoubts() doubts {
	d := doubts{since: map[string]time.Time{}, timer: time.NewTimer(time.Hour)}
	d.timer.Stop()
	return d
}

// hold shows those that have failed just now as they were before.
func (d *doubts) hold(found []serf.Member, before *members) {
	now := time.Now()
	next := time.Duration(0)
	doubted := make(map[string]time.Time, len(d.since))
	for i, m := range found {
		if m.Status != serf.StatusFailed {
			continue
		}
		if was, ok := before.named(m.Name); !ok || was.Status != api.MemberAlive {
			continue
		}
		since, ok := d.since[m.Name]
		if !ok {
			since = now
		}
		left := doubtFor - now.Sub(since)
		if left <= 0 {
			continue
		}
		found[i].Status = serf.StatusAlive
		doubted[m.Name] = since
		if next == 0 || left < next {
			next = left
		}
	}
	d.since = doubted
	if next > 0 {
		d.timer.Reset(next)
	}
}
