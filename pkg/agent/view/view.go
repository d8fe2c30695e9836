// Package view answers reads of the replicated state, at once or when the
// answer changes (a blocking query).
//
// What it promises:
//   - Equal reads share one view. A change of what the view was read from costs
//     one query and one encoding, for any number of blocked reads and
//     subscriptions. A read of an unchanged view costs neither. The memory for
//     that is bounded (shared.go).
//   - A waiting reader returns only for a change of its answer. Its query names
//     the keys and prefixes that the answer was read from; a new answer that is
//     equal to the one before is not delivered.
//   - No change is missed between two reads of one query: a reader that asks
//     with the index of its last answer gets the next one.
//   - Readers see whole raft entries only. The goroutine that applies publishes
//     an immutable snapshot by one atomic pointer; two reads at one snapshot
//     agree, and so do all queries of a frame (follow.go).
//   - The cost of publishing depends on what was touched, not on the number of
//     waiters: one waiter of each invalidated view is woken, the refresher. It
//     runs the query and, if the answer changed, wakes the others (waiters.go).
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

// Answer is the result of a query. Value is shared and never modified. Missing
// says that what was asked for does not exist (a 404 for some routes).
type Answer struct {
	Value   any
	Meta    state.Meta
	Missing bool
	// Encoding keeps the encoded forms of a shared answer; nil for others.
	// Answers of one key with the same Encoding are equal but for Meta.
	Encoding *Encoding
}

// Views holds the current snapshot, the views of it and their waiters. It is safe
// for concurrent use.
type Views struct {
	current  atomic.Pointer[state.Snapshot]
	restores atomic.Uint64 // counts the restored states

	mu           sync.Mutex // guards views and waiters, and is held while the pointer is swapped
	cache        cache
	waiting      int
	indexWaiters map[chan struct{}]uint64 // closed once that index is published; see AwaitIndex
}

// New returns the views of the given snapshot.
func New(first *state.Snapshot) *Views {
	vs := &Views{cache: newCache(), indexWaiters: map[chan struct{}]uint64{}}
	vs.current.Store(first)
	return vs
}

// Snapshot is the newest published state.
func (vs *Views) Snapshot() *state.Snapshot { return vs.current.Load() }

// Publish replaces the snapshot and wakes the readers of what was touched. Only
// the goroutine that applies may call it.
func (vs *Views) Publish(snap *state.Snapshot, touched []state.Touch) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	// A reader registers under the same lock, so it either is woken here or
	// sees the new pointer.
	vs.current.Store(snap)
	for _, t := range touched {
		vs.cache.index.each(t, (*shared).invalidate)
	}
	vs.wakeIndexWaiters(snap.Index())
}

// PublishAll publishes a restored state: every reader reads again, and returns its
// answer even if the index is lower than before.
func (vs *Views) PublishAll(snap *state.Snapshot) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.current.Store(snap)
	vs.restores.Add(1)
	for v := range vs.cache.index.all {
		v.restored = true
		v.invalidate()
	}
	vs.wakeIndexWaiters(snap.Index())
}

func (vs *Views) wakeIndexWaiters(index uint64) {
	for reached, at := range vs.indexWaiters {
		if at <= index {
			close(reached)
			delete(vs.indexWaiters, reached)
		}
	}
}

// AwaitIndex returns once a snapshot of at least that index is published.
func (vs *Views) AwaitIndex(ctx context.Context, index uint64) error {
	vs.mu.Lock()
	if vs.Snapshot().Index() >= index {
		vs.mu.Unlock()
		return nil
	}
	reached := make(chan struct{})
	vs.indexWaiters[reached] = index
	vs.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		vs.mu.Lock()
		defer vs.mu.Unlock()
		delete(vs.indexWaiters, reached)
		return ctx.Err()
	}
}

// Waiting is the number of queries that are waited for now.
func (vs *Views) Waiting() int {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return vs.waiting
}

// Read answers q. Readers with the same key must have the same query; they share one
// view. With the key "" nothing is shared. With minIndex above zero it returns
// once the answer's index is above minIndex and the answer changed, when wait is
// over (with the current answer), or with ctx's error when ctx ends first.
func (vs *Views) Read(ctx context.Context, key string, q Query, minIndex uint64, wait time.Duration) (Answer, error) {
	if key == "" && minIndex == 0 {
		return q(vs.Snapshot()), nil
	}
	restores := vs.restores.Load()
	v, ans, ok := vs.lookUp(key)
	if !ok {
		ans = vs.ask(v, q)
	}
	if minIndex == 0 || ans.Meta.Index > minIndex {
		return ans, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	return vs.await(ctx, v, q, ans, minIndex, restores, timer.C)
}

// await parks a reader that has seen ans. The refresher runs the query again; the
// others get its answer.
func (vs *Views) await(ctx context.Context, v *shared, q Query, ans Answer, min, restores uint64, timeout <-chan time.Time) (Answer, error) {
	me := &waiter{view: v, min: min, group: newGroup()}
	defer vs.done(me)
	for {
		if vs.park(me, ans.Encoding, restores) {
			select {
			case <-me.group.woken:
				if got := vs.takeWoken(me); got != nil {
					return *got, nil
				}
			case <-timeout:
				if got := vs.leave(me); got != nil {
					return *got, nil
				}
				return vs.ask(v, q), nil
			case <-ctx.Done():
				vs.leave(me)
				return Answer{}, ctx.Err()
			}
		}
		next := vs.ask(v, q)
		if vs.restores.Load() != restores {
			return vs.ask(v, q), nil // next may be from before
		}
		if next.Meta.Index > min && next.Encoding != ans.Encoding {
			return next, nil
		}
		ans = next
	}
}

// park registers a blocked read, unless the answer that it has seen may be old.
func (vs *Views) park(w *waiter, seen *Encoding, restores uint64) bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v := w.view
	vs.cache.register(v)
	if !v.fresh() || v.ans.Encoding != seen || vs.restores.Load() != restores {
		return false
	}
	vs.addWaiter(w)
	return true
}

// done undoes park for a reader that no answer was delivered to.
func (vs *Views) done(w *waiter) {
	if w.delivered.Load() == nil {
		vs.mu.Lock()
		defer vs.mu.Unlock()
		vs.release(w.view)
	}
}

// takeWoken removes a blocked read that was woken, and returns the answer that was
// delivered to it, if any. A refresher stays one until it runs the query, which it
// does next.
func (vs *Views) takeWoken(w *waiter) *Answer {
	if got := w.delivered.Load(); got != nil {
		return got // deliver has removed it
	}
	return vs.remove(w, false)
}

// leave removes a blocked read that ends. If it was the refresher, another waiter
// becomes it.
func (vs *Views) leave(w *waiter) *Answer { return vs.remove(w, true) }

func (vs *Views) remove(w *waiter, gone bool) *Answer {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if got := w.delivered.Load(); got != nil {
		return got
	}
	vs.removeWaiter(w, gone)
	return nil
}
