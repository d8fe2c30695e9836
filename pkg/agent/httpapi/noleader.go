package httpapi

import (
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// repeatAfter is when the same reason is logged again.
const repeatAfter = 10 * time.Minute

// noLeaderLog limits the log to one line for all requests that found no leader for the
// same reason.
type noLeaderLog struct {
	mu       sync.Mutex
	reason   string
	loggedAt time.Time
}

// due says whether to log a reason now.
func (l *noLeaderLog) due(reason string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == reason && now.Sub(l.loggedAt) < repeatAfter {
		return false
	}
	l.reason, l.loggedAt = reason, now
	return true
}

// explainNoLeader adds a header that says why there is no leader, as far as this agent
// knows. The body stays the reference's: clients and agents compare it.
func (rq *request) explainNoLeader() {
	members := rq.api.cfg.Members.Members()
	list := make([]*api.Member, len(members))
	for i := range members {
		list[i] = &members[i]
	}
	reason := api.WhyNoLeader(list)
	rq.reason(reason)
	if rq.api.noLeaderLog.due(reason, time.Now()) {
		rq.api.cfg.Logger.Warn("requests wait for a leader in vain: "+reason, "waited", rq.api.cfg.HoldTimeout)
	}
}
