// Package broadcast tells any number of waiters that something has changed.
//
// What it promises: who takes the channel before it looks at what may change
// misses no change; telling costs the same however many wait.
package broadcast

import "sync"

// Signal is told of changes by Notify. The zero value is ready for use; it is
// safe for concurrent use.
type Signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// Changed gives a channel that is closed by the next Notify. Take it first, then
// look, then wait.
func (s *Signal) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Notify wakes all who hold a channel of Changed.
func (s *Signal) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
