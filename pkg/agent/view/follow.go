package view

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Follower reads many queries as one: each Frame is what all of them answer at
// one raft index, so that nobody sees half of a transaction. Indexes may be
// skipped, never split. It belongs to one goroutine, which ends it with Close.
type Follower struct {
	board   *Board
	group   *group
	queries map[string]*followed
	owners  map[*waiter]*followed
}

// Frame is the state at Index, as far as it differs from the frame before.
type Frame struct {
	Index   uint64
	Changed map[string]Answer
}

type followed struct {
	waiter
	key   string
	query Query
	last  Answer
	known bool // last was in a frame
}

// Follow makes a follower of nothing yet.
func (b *Board) Follow() *Follower {
	return &Follower{board: b, group: newGroup(), queries: map[string]*followed{}, owners: map[*waiter]*followed{}}
}

// Add follows one more query under a key of the caller's; its first answer is in
// the next frame. A key that is followed already keeps its query.
func (f *Follower) Add(key string, q Query) {
	if f.queries[key] != nil {
		return
	}
	e := &followed{key: key, query: q}
	e.group = f.group
	f.queries[key], f.owners[&e.waiter] = e, e
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	f.board.waiters.add(&e.waiter)
	e.wake()
}

// Drop follows a query no longer.
func (f *Follower) Drop(key string) {
	if e := f.queries[key]; e != nil {
		f.board.unregister(&e.waiter)
		delete(f.queries, key)
		delete(f.owners, &e.waiter)
	}
}

// Close follows nothing any more.
func (f *Follower) Close() {
	for key := range f.queries {
		f.Drop(key)
	}
}

// Next returns the next frame: as soon as an answer changed, or, with nothing
// changed, after the given time.
func (f *Follower) Next(ctx context.Context, quiet time.Duration) (Frame, error) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		dirty, snap := f.board.take(f.group)
		if changed := f.evaluate(dirty, snap); len(changed) > 0 {
			return Frame{snap.Index(), changed}, nil
		}
		select {
		case <-f.group.woken:
		case <-timer.C:
			return Frame{Index: snap.Index()}, nil
		case <-ctx.Done():
			return Frame{}, ctx.Err()
		}
	}
}

// evaluate asks the dirty queries again, and returns what differs.
func (f *Follower) evaluate(dirty []*waiter, snap *state.Snapshot) map[string]Answer {
	out := map[string]Answer{}
	for _, w := range dirty {
		e := f.owners[w]
		if e == nil {
			continue // dropped meanwhile
		}
		ans := e.query(snap)
		if !e.known || changed(e.last, ans) {
			out[e.key] = ans
		}
		e.last, e.known = ans, true
		if f.board.rewatch(w, ans.Meta.Watch) && f.board.Snapshot() != snap {
			f.board.mu.Lock()
			w.wake()
			f.board.mu.Unlock()
		}
	}
	return out
}
