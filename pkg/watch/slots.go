package watch

import (
	"context"
	"sync/atomic"
)

// minSlots is how few a server that refuses connections can leave us.
const minSlots = 8

// slots bounds how many requests are in flight; those that wait get their turn
// in order.
type slots struct {
	free chan struct{}
	left *atomic.Int64
	owed *atomic.Int64 // lost, but not yet released
}

func newSlots(n int) slots {
	s := slots{free: make(chan struct{}, n), left: &atomic.Int64{}, owed: &atomic.Int64{}}
	s.left.Store(int64(n))
	for range n {
		s.free <- struct{}{}
	}
	return s
}

func (s *slots) size() int { return int(s.left.Load()) }

// acquire waits for a slot; false when ctx has ended.
func (s *slots) acquire(ctx context.Context) bool {
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
func (s *slots) release(refused bool) (lost bool) {
	if refused {
		lost = s.lose()
	}
	for {
		owed := s.owed.Load()
		if owed == 0 {
			s.free <- struct{}{}
			return lost
		}
		if s.owed.CompareAndSwap(owed, owed-1) {
			return lost
		}
	}
}

// lose takes an eighth of the slots away; those in use go when they are released.
func (s *slots) lose() bool {
	for {
		left := s.left.Load()
		n := min(max(1, left/8), left-minSlots)
		if n <= 0 {
			return false
		}
		if s.left.CompareAndSwap(left, left-n) {
			s.owed.Add(n)
			return true
		}
	}
}
