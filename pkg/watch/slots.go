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
}

func newSlots(n int) slots {
	s := slots{free: make(chan struct{}, n), left: &atomic.Int64{}}
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
// connections from here: then the slot is gone for good, down to a few.
func (s *slots) release(refused bool) (lost bool) {
	if refused && s.left.Add(-1) >= minSlots {
		return true
	} else if refused {
		s.left.Add(1)
	}
	s.free <- struct{}{}
	return false
}
