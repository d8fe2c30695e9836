// Package broadcast tells any number of waiters that something has changed.
//
// It promises that a waiter which calls Changed before it reads what may change misses
// no change, and that Notify costs the same however many wait.
package broadcast

import "sync"

// Signal is one thing that changes. The zero value is ready for use; it is safe for
// concurrent use.
type Signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// Changed returns a channel that the next Notify closes. Call it first, then read what
// may change, then wait.
func (s *Signal) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Notify closes the channel that Changed has returned, which wakes all waiters.
func (s *Signal) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
