package nextcall

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestShares: those who come while a question is under way share the next one; none
// is answered by a question that was put before it came.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type answer struct {
			n   int
			err error
		}
		asked, answers, failed := 0, make(chan answer), errors.New("no majority")
		s := &Group[int]{Call: func() (int, error) { asked++; a := <-answers; return a.n, a.err }}

		var first, rest sync.WaitGroup
		first.Go(func() {
			if n, err := s.Do(t.Context()); n != 1 || err != nil {
				t.Error(n, err)
			}
		})
		synctest.Wait()
		var bad atomic.Int32
		for range 50 {
			rest.Go(func() {
				if _, err := s.Do(t.Context()); !errors.Is(err, failed) {
					bad.Add(1)
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Do(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that gave up: %v", err)
		}
		synctest.Wait()
		answers <- answer{n: 1}
		first.Wait()
		answers <- answer{err: failed}
		rest.Wait()
		synctest.Wait()
		if asked != 2 || bad.Load() != 0 {
			t.Errorf("%d questions for 51 callers, %d wrong answers", asked, bad.Load())
		}
		go func() { answers <- answer{n: 3} }()
		if n, err := s.Do(t.Context()); n != 3 || err != nil || asked != 3 {
			t.Errorf("a later caller: %d, %v, %d questions", n, err, asked)
		}
	})
}

// TestStop waits for the question that is under way, and there is no other.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan int)
		s := &Group[int]{Call: func() (int, error) { return <-answers, nil }}
		var caller, stopping sync.WaitGroup
		caller.Go(func() {
			if n, err := s.Do(t.Context()); n != 7 || err != nil {
				t.Error(n, err)
			}
		})
		synctest.Wait()
		var stopped atomic.Bool
		stopping.Go(func() { s.Stop(); stopped.Store(true) })
		synctest.Wait()
		if stopped.Load() {
			t.Error("Stop did not wait")
		}
		if _, err := s.Do(t.Context()); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		answers <- 7
		stopping.Wait()
		caller.Wait()
	})
}
