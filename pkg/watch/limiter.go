package watch

import (
	"context"
	"sync/atomic"
)

// minLimit is how few a server that refuses connections can leave us.
const minLimit = 8

// limiter bounds how many requests are in flight; those that wait get their turn
// in order.
type limiter struct {
	free   chan struct{}
	limit  *atomic.Int64
	excess *atomic.Int64 // lost, but not yet released
}

func newLimiter(n int) limiter {
	s := limiter{free: make(chan struct{}, n), limit: &atomic.Int64{}, excess: &atomic.Int64{}}
	s.limit.Store(int64(n))
	for range n {
		s.free <- struct{}{}
	}
	return s
}

func (s *limiter) size() int { return int(s.limit.Load()) }

// acquire waits for a slot; false when ctx has ended.
func (s *limiter) acquire(ctx context.Context) bool {
	select {
	case <-s.free:
		return true
	case <-ctx.Done():
		return false
	}
}

// release gives a slot back. refused means that the server has too many
// connections from here: then a share of the slots is gone for good, down to a
// few, so that other clients at this address find room again. It says whether
// slots were lost.
func (s *limiter) release(refused bool) (lost bool) {
	if refused {
		lost = s.shrink()
	}
	for {
		owed := s.excess.Load()
		if owed == 0 {
			s.free <- struct{}{}
			return lost
		}
		if s.excess.CompareAndSwap(owed, owed-1) {
			return lost
		}
	}
}

// shrink takes an eighth of the slots away; those in use go when they are released.
func (s *limiter) shrink() bool {
	for {
		left := s.limit.Load()
		n := min(max(1, left/8), left-minLimit)
		if n <= 0 {
			return false
		}
		if s.limit.CompareAndSwap(left, left-n) {
			s.excess.Add(n)
			return true
		}
	}
}
