package watch

import (
	"context"
	"sync/atomic"
)

// minLimit is the lowest limit after a server has refused connections.
const minLimit = 8

// limiter bounds the number of requests in flight. Those that wait get a slot in order.
type limiter struct {
	free   chan struct{}
	limit  *atomic.Int64
	excess *atomic.Int64 // slots above the limit that are still in use
}

func newLimiter(n int) limiter {
	l := limiter{free: make(chan struct{}, n), limit: &atomic.Int64{}, excess: &atomic.Int64{}}
	l.limit.Store(int64(n))
	for range n {
		l.free <- struct{}{}
	}
	return l
}

func (l *limiter) size() int { return int(l.limit.Load()) }

// acquire waits for a slot; false when ctx has ended.
func (l *limiter) acquire(ctx context.Context) bool {
	select {
	case <-l.free:
		return true
	case <-ctx.Done():
		return false
	}
}

// release gives a slot back. refused means that the server has too many
// connections from this address: then the limit falls for good, so that other clients
// here can connect. lost reports that it fell.
func (l *limiter) release(refused bool) (lost bool) {
	if refused {
		lost = l.shrink()
	}
	for {
		excess := l.excess.Load()
		if excess == 0 {
			l.free <- struct{}{}
			return lost
		}
		if l.excess.CompareAndSwap(excess, excess-1) {
			return lost
		}
	}
}

// shrink lowers the limit by an eighth; slots in use go when they are released.
func (l *limiter) shrink() bool {
	for {
		limit := l.limit.Load()
		n := min(max(1, limit/8), limit-minLimit)
		if n <= 0 {
			return false
		}
		if l.limit.CompareAndSwap(limit, limit-n) {
			l.excess.Add(n)
			return true
		}
	}
}
