// Package nextcall lets one call serve all callers that wait for its result.
//
// What it promises: nobody gets the result of a call that began before he asked, so what
// the result proves ("this server leads") held at a moment after that. At most one call
// is under way; all who ask meanwhile share the next one.
package nextcall

import (
	"context"
	"errors"
	"sync"
)

// ErrStopped is what Do returns after Stop.
var ErrStopped = errors.New("no more calls are made")

// Group is a call that many may share. Call makes it; it has to return in the end,
// whatever happens. The zero value with Call set is ready for use.
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

// Do returns the result of a call that begins after Do did. Its error is that of Call,
// ctx's cause, or ErrStopped.
func (g *Group[T]) Do(ctx context.Context) (T, error) {
	var none T
	next := g.join()
	if next == nil {
		return none, ErrStopped
	}
	select {
	case <-next.done:
		return next.value, next.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func (g *Group[T]) join() *call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	if g.next == nil {
		g.next = &call[T]{done: make(chan struct{})}
	}
	if !g.calling {
		g.calling = true
		g.run.Go(g.callAll)
	}
	return g.next
}

// callAll calls until nobody waits.
func (g *Group[T]) callAll() {
	for {
		g.mu.Lock()
		now := g.next
		g.next = nil
		g.calling = now != nil
		g.mu.Unlock()
		if now == nil {
			return
		}
		now.value, now.err = g.Call()
		close(now.done)
	}
}

// Stop refuses new callers and waits for the calls that are under way.
func (g *Group[T]) Stop() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.run.Wait()
}
