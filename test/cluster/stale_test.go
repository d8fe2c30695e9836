package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// leaseTime is for how long a default read may lack what another leader has
// acknowledged.
const leaseTime = time.Second

// A leader that is stopped until another one leads and has acknowledged a write, and
// goes on later than the lease after that, answers no default read from the past:
// not the requests that waited in its sockets for it, nor those that other servers
// send on.
func TestDefaultReadsAfterPause(t *testing.T) {
	c := harness.Start(t, 3, 0)
	for range rounds(2, 10) {
		awaitOneCluster(c, 3, 3)
		old := c.Leader()
		rest := slices.DeleteFunc(c.Servers(), func(a *agent) bool { return a == old })
		old.AwaitPutKey("value", "old")
		old.Pause()
		harness.Until(t, "another leader acknowledges a write", func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := rest[0].KVPut(short, "value", []byte("new"), client.KVWrite{}, nil)
			return err
		})
		wait(t, leaseTime)

		var past, failed atomic.Int32
		var reading sync.WaitGroup
		begun := make(chan struct{}, 2*120)
		for _, a := range []*agent{old, rest[1]} {
			for range 120 {
				reading.Go(func() {
					begun <- struct{}{}
					pair, _, err := a.KVGet(t.Context(), "value", nil)
					switch {
					case err != nil:
						failed.Add(1)
					case pair == nil || string(pair.Value) != "new":
						past.Add(1)
					}
				})
			}
		}
		for range cap(begun) {
			<-begun
		}
		old.Resume()
		reading.Wait()
		if n := past.Load(); n > 0 {
			t.Errorf("%d of 240 default reads lack a write that was acknowledged more than %v before they began", n, leaseTime)
		}
		if n := failed.Load(); n > 0 {
			t.Errorf("%d of 240 reads failed", n)
		}
	}
}
