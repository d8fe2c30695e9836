// Package view answers reads of the replicated state, at once or when the
// answer changes (a blocking query).
//
// What it promises:
//   - A waiting reader wakes only for a change of what it reads: its query names
//     the keys and prefixes its answer came from, and an answer that turns out
//     equal to the one before is not given out.
//   - No change is missed between two reads of one query: a reader that asks
//     with the index of its last answer gets the next one.
//   - Whoever asks again what has not changed costs neither a query nor an
//     encoding (shared.go). What is kept for that is bounded.
//   - Readers see whole raft entries only. The goroutine that applies publishes
//     an immutable snapshot by one atomic pointer; two reads at one snapshot
//     agree.
//
// One goroutine publishes, any number read; the package starts none.
package view

import (
	"context"
	"reflect"
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
	// Encoding keeps the bytes of an answer that is shared; nil for others.
	Encoding *Encoding
}

// Board holds the current snapshot and those who wait for the next.
type Board struct {
	current  atomic.Pointer[state.Snapshot]
	restores atomic.Uint64 // counts the restored states

	mu      sync.Mutex // held while waiters are marked and the pointer is swapped
	waiters waiters
	ahead   map[chan struct{}]uint64 // closed once that index is published; see AwaitIndex
	shared  sharedAnswers
}

// New makes a board that shows the given snapshot.
func New(first *state.Snapshot) *Board {
	b := &Board{waiters: newWaiters(), ahead: map[chan struct{}]uint64{}, shared: sharedAnswers{byKey: map[string]*shared{}}}
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
		b.waiters.wake(t)
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

// PublishAll shows a restored state: every reader looks again, and gives out
// what it sees even where the index fell.
func (b *Board) PublishAll(snap *state.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current.Store(snap)
	b.restores.Add(1)
	b.waiters.wakeAll()
	b.announce(snap.Index())
}

// Waiting is the number of readers that wait now.
func (b *Board) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiters.waiting
}

// Read answers q. Readers with the same key, which must ask the same, share one
// answer until it changes, and its encoding; with the key "" each asks for
// itself. With minIndex above zero it returns once the answer's index is
// above minIndex and the answer changed, when wait is over (with the current
// answer), or with ctx's error when ctx ends first.
func (b *Board) Read(ctx context.Context, key string, q Query, minIndex uint64, wait time.Duration) (Answer, error) {
	restores := b.restores.Load()
	snap := b.Snapshot()
	ans := b.answer(key, q)
	if minIndex == 0 || ans.Meta.Index > minIndex {
		return ans, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	return b.await(ctx, key, q, waitFor{snap, ans, minIndex, restores, timer.C})
}

type waitFor struct {
	snap     *state.Snapshot
	ans      Answer
	min      uint64
	restores uint64
	timeout  <-chan time.Time
}

func (b *Board) await(ctx context.Context, key string, q Query, f waitFor) (Answer, error) {
	me := &waiter{watch: f.ans.Meta.Watch, group: newGroup()}
	b.register(me)
	defer func() { b.unregister(me) }()
	for {
		// What was published before we registered did not wake us.
		if _, now := b.take(me.group); now != f.snap {
			next := b.answer(key, q)
			if b.restores.Load() != f.restores || next.Meta.Index > f.min && changed(f.ans, next) {
				return next, nil
			}
			f.snap, f.ans = now, next
			if b.rewatch(me, next.Meta.Watch) {
				continue
			}
		}
		select {
		case <-me.group.woken:
		case <-f.timeout:
			return b.answer(key, q), nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
}

func changed(before, after Answer) bool {
	return before.Missing != after.Missing || !reflect.DeepEqual(before.Value, after.Value)
}

func (b *Board) register(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters.add(w)
}

func (b *Board) unregister(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters.remove(w)
}

// rewatch makes a waiter watch something else, and says whether it was
// something else: then changes of it may have gone unseen until now.
func (b *Board) rewatch(w *waiter, watch []state.Watch) bool {
	if reflect.DeepEqual(w.watch, watch) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters.remove(w)
	w.watch = watch
	b.waiters.add(w)
	return true
}

// take hands out what is dirty together with the snapshot that it is dirty
// against: whatever a group reads that is not among it is the same there as when
// it was read.
func (b *Board) take(g *group) ([]*waiter, *state.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return g.take(), b.current.Load()
}
