package gossip

import (
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"
)

// rejoinWindow bounds how long all events count as old while we have not rejoined: an
// agent that cannot reach the members that it knew may be joined by others.
const rejoinWindow = 5 * time.Second

// eventCutoff knows which events were sent before we joined. Serf leaves them out of
// what a join brings, but a member that remembers us from before a restart may send
// them first.
type eventCutoff struct {
	mu     sync.Mutex
	until  time.Time // of the joining, while that has not succeeded
	before uint64    // events of an earlier LTime are old
}

// begin is called when others may remember us.
func (c *eventCutoff) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Now().Add(rejoinWindow)
}

// end is called when a join has succeeded.
func (c *eventCutoff) end(s *serf.Serf) {
	now, _ := strconv.ParseUint(s.Stats()["event_time"], 10, 64)
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		c.before = now // those that wait to be handled
	}
	c.until = time.Time{}
}

func (c *eventCutoff) isOld(ltime uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ltime < c.before || time.Now().Before(c.until)
}
