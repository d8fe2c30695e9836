// Package nextcall lets one question serve everybody who waits for its answer.
//
// What it promises: nobody gets the answer to a question that was put before he
// came, so what the answer proves ("this server leads") held at a moment after
// that. At most one question is under way; who comes meanwhile shares the next.
package nextcall

import (
	"context"
	"errors"
	"sync"
)

// ErrStopped is what Do returns after Stop.
var ErrStopped = errors.New("no more questions are put")

// Group is a question that many may share. Ask puts it; it has to return
// sometime, whatever happens. The zero value with Ask set is ready for use.
type Group[T any] struct {
	Call func() (T, error)

	mu      sync.Mutex
	calling bool
	stopped bool
	next    *call[T]
	run     sync.WaitGroup
}

type call[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// Do returns the answer to a question that is put after the call, or why there is
// none: Ask's error, ctx's cause, or ErrStopped.
func (s *Group[T]) Do(ctx context.Context) (T, error) {
	var none T
	mine := s.join()
	if mine == nil {
		return none, ErrStopped
	}
	select {
	case <-mine.done:
		return mine.value, mine.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func (s *Group[T]) join() *call[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if s.next == nil {
		s.next = &call[T]{done: make(chan struct{})}
	}
	if !s.calling {
		s.calling = true
		s.run.Go(s.callAll)
	}
	return s.next
}

// callAll asks until nobody waits.
func (s *Group[T]) callAll() {
	for {
		s.mu.Lock()
		now := s.next
		s.next = nil
		s.calling = now != nil
		s.mu.Unlock()
		if now == nil {
			return
		}
		now.value, now.err = s.Call()
		close(now.done)
	}
}

// Stop refuses new questions and waits for those that are under way.
func (s *Group[T]) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.run.Wait()
}
