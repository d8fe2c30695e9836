// Package round lets one question serve everybody who waits for its answer.
//
// What it promises: nobody gets the answer to a question that was put before he
// came, so what the answer proves ("this server leads") held at a moment after
// that. At most one question is under way; who comes meanwhile shares the next.
package round

import (
	"context"
	"errors"
	"sync"
)

// ErrStopped is what Do returns after Stop.
var ErrStopped = errors.New("no more questions are put")

// Shared is a question that many may share. Ask puts it; it has to return
// sometime, whatever happens. The zero value with Ask set is ready for use.
type Shared[T any] struct {
	Ask func() (T, error)

	mu      sync.Mutex
	asking  bool
	stopped bool
	next    *round[T]
	run     sync.WaitGroup
}

type round[T any] struct {
	done   chan struct{}
	answer T
	err    error
}

// Do returns the answer to a question that is put after the call, or why there is
// none: Ask's error, ctx's cause, or ErrStopped.
func (s *Shared[T]) Do(ctx context.Context) (T, error) {
	var none T
	mine := s.join()
	if mine == nil {
		return none, ErrStopped
	}
	select {
	case <-mine.done:
		return mine.answer, mine.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func (s *Shared[T]) join() *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if s.next == nil {
		s.next = &round[T]{done: make(chan struct{})}
	}
	if !s.asking {
		s.asking = true
		s.run.Go(s.askAll)
	}
	return s.next
}

// askAll asks until nobody waits.
func (s *Shared[T]) askAll() {
	for {
		s.mu.Lock()
		now := s.next
		s.next = nil
		s.asking = now != nil
		s.mu.Unlock()
		if now == nil {
			return
		}
		now.answer, now.err = s.Ask()
		close(now.done)
	}
}

// Stop refuses new questions and waits for those that are under way.
func (s *Shared[T]) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.run.Wait()
}
