package httpapi

import (
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// remind is after which time the same reason is logged again.
const remind = 10 * time.Minute

// leaderless says why there is no leader, once for all requests that waited for one.
type leaderless struct {
	mu   sync.Mutex
	said string
	at   time.Time
}

// news tells whether a reason is to be logged.
func (l *leaderless) news(reason string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said == reason && now.Sub(l.at) < remind {
		return false
	}
	l.said, l.at = reason, now
	return true
}

// whyNoLeader puts beside an answer for which a leader was missing what this agent
// knows of it. The body stays the reference's, which clients and agents compare.
func (rq *request) whyNoLeader() {
	members := rq.api.cfg.Members.Members()
	list := make([]*api.Member, len(members))
	for i := range members {
		list[i] = &members[i]
	}
	reason := api.WhyNoLeader(list)
	rq.reason(reason)
	if rq.api.leaderless.news(reason, time.Now()) {
		rq.api.cfg.Logger.Warn("requests wait for a leader in vain: "+reason, "waited", rq.api.cfg.HoldTimeout)
	}
}
