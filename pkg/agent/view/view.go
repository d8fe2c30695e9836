// Package view answers reads of the replicated state, at once or when the
// answer changes (a blocking query).
//
// What it promises:
//   - All who ask the same share one view: for each change of what it was read
//     from there is one query and one encoding, for ten readers or ten thousand,
//     be they blocked reads or subscriptions. Whoever asks again what has not
//     changed costs neither. What is kept for that is bounded (shared.go).
//   - A waiting reader returns only for a change of what it reads: its query
//     names the keys and prefixes its answer came from, and an answer that turns
//     out equal to the one before is not given out.
//   - No change is missed between two reads of one query: a reader that asks
//     with the index of its last answer gets the next one.
//   - Readers see whole raft entries only. The goroutine that applies publishes
//     an immutable snapshot by one atomic pointer; two reads at one snapshot
//     agree, and so do all queries of a frame (follow.go).
//   - Publishing costs what was touched, not who waits: of those who wait for a
//     view one is woken, a scout, which asks anew and wakes the others if what
//     it sees is another answer (waiters.go).
//
// One goroutine publishes, any number read; the package starts none.
package view

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Query is a pure function of a snapshot. It may run any number of times.
type Query func(*state.Snapshot) Answer

// Answer is what a query yields. Value is shared and never modified. Missing
// says that the thing asked for does not exist (a 404 for some routes).
type Answer struct {
	Value   any
	Meta    state.Meta
	Missing bool
	// Encoding keeps the encoded forms of a shared answer; nil for others.
	// Answers of one key with the same Encoding are equal but for Meta.
	Encoding *Encoding
}

// Board holds the current snapshot and those who wait for the next.
type Board struct {
	current  atomic.Pointer[state.Snapshot]
	restores atomic.Uint64 // counts the restored states

	mu      sync.Mutex // guards views and waiters, and is held while the pointer is swapped
	views   views
	waiting int
	ahead   map[chan struct{}]uint64 // closed once that index is published; see AwaitIndex
}

// New makes a board that shows the given snapshot.
func New(first *state.Snapshot) *Board {
	b := &Board{views: newViews(), ahead: map[chan struct{}]uint64{}}
	b.current.Store(first)
	return b
}

// Snapshot is the newest published state.
func (b *Board) Snapshot() *state.Snapshot { return b.current.Load() }

// Publish shows a new snapshot and wakes the readers of what was touched. Only
// the goroutine that applies may call it.
func (b *Board) Publish(snap *state.Snapshot, touched []state.Touch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A reader registers under the same lock, so it either is woken here or
	// sees the new pointer when it looks again.
	b.current.Store(snap)
	for _, t := range touched {
		b.views.index.each(t, (*shared).touch)
	}
	b.announce(snap.Index())
}

// PublishAll shows a restored state: every reader looks again, and gives out
// what it sees even where the index fell.
func (b *Board) PublishAll(snap *state.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current.Store(snap)
	b.restores.Add(1)
	for v := range b.views.index.all {
		v.restored = true
		v.touch()
	}
	b.announce(snap.Index())
}

func (b *Board) announce(index uint64) {
	for reached, at := range b.ahead {
		if at <= index {
			close(reached)
			delete(b.ahead, reached)
		}
	}
}

// AwaitIndex returns once a snapshot of at least that index is published.
func (b *Board) AwaitIndex(ctx context.Context, index uint64) error {
	b.mu.Lock()
	if b.Snapshot().Index() >= index {
		b.mu.Unlock()
		return nil
	}
	reached := make(chan struct{})
	b.ahead[reached] = index
	b.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.ahead, reached)
		return ctx.Err()
	}
}

// Waiting is the number of queries that are waited for now.
func (b *Board) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// Read answers q. Readers with the same key, which must ask the same, share one
// view; with the key "" each asks for itself. With minIndex above zero it returns
// once the answer's index is above minIndex and the answer changed, when wait is
// over (with the current answer), or with ctx's error when ctx ends first.
func (b *Board) Read(ctx context.Context, key string, q Query, minIndex uint64, wait time.Duration) (Answer, error) {
	if key == "" && minIndex == 0 {
		return q(b.Snapshot()), nil
	}
	restores := b.restores.Load()
	v, ans, ok := b.lookUp(key)
	if !ok {
		ans = b.ask(v, q)
	}
	if minIndex == 0 || ans.Meta.Index > minIndex {
		return ans, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	return b.await(ctx, v, q, ans, minIndex, restores, timer.C)
}

// await parks a reader that has seen ans. It asks again itself only where it is
// the scout; otherwise it is handed the new answer.
func (b *Board) await(ctx context.Context, v *shared, q Query, ans Answer, min, restores uint64, timeout <-chan time.Time) (Answer, error) {
	me := &waiter{view: v, min: min, group: newGroup()}
	defer b.release(me)
	for {
		if b.park(me, ans.Encoding, restores) {
			select {
			case <-me.group.woken:
				if got := b.wakeUp(me); got != nil {
					return *got, nil
				}
			case <-timeout:
				if got := b.leave(me); got != nil {
					return *got, nil
				}
				return b.ask(v, q), nil
			case <-ctx.Done():
				b.leave(me)
				return Answer{}, ctx.Err()
			}
		}
		next := b.ask(v, q)
		if b.restores.Load() != restores {
			return b.ask(v, q), nil // next may be from before
		}
		if next.Meta.Index > min && next.Encoding != ans.Encoding {
			return next, nil
		}
		ans = next
	}
}

// park registers a blocked read, unless there may be another answer than the one
// it has seen.
func (b *Board) park(w *waiter, seen *Encoding, restores uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := w.view
	b.views.list(v)
	if !v.holds() || v.ans.Encoding != seen || b.restores.Load() != restores {
		return false
	}
	b.join(w)
	return true
}

// release lets go of what park did for a reader that was not handed its answer.
func (b *Board) release(w *waiter) {
	if w.given.Load() == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.rest(w.view)
	}
}

// wakeUp takes a blocked read that was woken out, with the answer it was handed,
// if it was. If it is the scout it stays so until it asks, which it does next.
func (b *Board) wakeUp(w *waiter) *Answer {
	if got := w.given.Load(); got != nil {
		return got // and nothing knows of it any more
	}
	return b.remove(w, false)
}

// leave takes a blocked read out that goes away. What it was to look at as the
// scout, another will.
func (b *Board) leave(w *waiter) *Answer { return b.remove(w, true) }

func (b *Board) remove(w *waiter, forGood bool) *Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := w.given.Load(); got != nil {
		return got
	}
	b.part(w, forGood)
	return nil
}
