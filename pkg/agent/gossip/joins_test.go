package gossip

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Agents that are started at one instant, as after a power cut, find each other:
// forty, unless MUSTER_STORM says how many; see docs/scale.md.
func TestStormOfJoinsConverges(t *testing.T) {
	size := 40
	if s := os.Getenv("MUSTER_STORM"); s != "" {
		var err error
		if size, err = strconv.Atoi(s); err != nil {
			t.Fatalf("MUSTER_STORM=%s: %v", s, err)
		}
	}
	bubble(t, func(t *testing.T) {
		f := newBigPool(t)
		defer f.end()
		f.build(3, 3)
		was := f.books()
		began := time.Now()
		f.joinAll(f.grow(size))
		joined := time.Since(began)
		f.converged(5 * time.Minute)
		all := time.Since(began)
		c, n := f.since(was), float64(size)
		t.Logf("%d at once: all taken in after %v, all know all after %v; per agent: CPU %.0f ms, %.0f packets, %.0f KB, %.1f streams, %.0f KB by them; %d packets dropped",
			size, joined, all, ms(c.cpu)/n, float64(c.packets)/n, float64(c.packetBytes)/n/1e3, float64(c.streams)/n, float64(c.streamBytes)/n/1e3, f.net.carried.dropped.Load())
		if all > 5*time.Second+time.Duration(size)*100*time.Millisecond {
			t.Errorf("%d agents that started at once needed %v to know each other", size, all)
		}
	})
}
