package gossip

import (
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"
)

// pastFor bounds how long all events count as old while we have not rejoined: who
// cannot reach those that it knew may be joined by others.
const pastFor = 5 * time.Second

// past knows which events were sent before we came. Serf leaves them out of what
// a join brings, but a member that remembers us from before a restart may be
// quicker with its own.
type past struct {
	mu     sync.Mutex
	until  time.Time // of the joining, while that has not succeeded
	before uint64    // events of an earlier LTime are old
}

// begin is called when others may remember us.
func (p *past) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(pastFor)
}

// end is called when a join has succeeded.
func (p *past) end(s *serf.Serf) {
	now, _ := strconv.ParseUint(s.Stats()["event_time"], 10, 64)
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		p.before = now // those that wait to be handled
	}
	p.until = time.Time{}
}

func (p *past) holds(ltime uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ltime < p.before || time.Now().Before(p.until)
}
