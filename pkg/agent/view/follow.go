package view

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Follower reads many queries together: each frame is the answers of all of them at
// one raft index, so that no frame has half of a transaction. Indexes may be
// skipped. A Follower keeps no answers. It belongs to one goroutine, which ends it
// with Close.
type Follower struct {
	views   *Views
	group   *group
	waiters []*waiter
}

// A Change is a new answer to the query that was added under that name. It may be
// equal to the last one if it has no Encoding, but has never the last Encoding.
type Change struct {
	Name   string
	Answer Answer
}

// maxRounds is how often a frame reads its queries again because the state changed
// meanwhile. After that they run at one snapshot, and share nothing.
const maxRounds = 8

// Follow returns a Follower without queries.
func (vs *Views) Follow() *Follower {
	f := &Follower{views: vs, group: newGroup()}
	f.group.follow = true
	return f
}

// Add adds a query, which shares its view with all reads of the same key; see
// Views.Read. Its first answer is in the next frame.
func (f *Follower) Add(name, key string, q Query) {
	f.views.mu.Lock()
	defer f.views.mu.Unlock()
	v := f.views.cache.find(key)
	w := &waiter{view: v, group: f.group, name: name, query: q}
	f.waiters = append(f.waiters, w)
	f.views.addWaiter(w)
	f.views.cache.register(v)
	w.markDirty()
}

// Close removes all queries.
func (f *Follower) Close() {
	f.views.mu.Lock()
	defer f.views.mu.Unlock()
	for _, w := range f.waiters {
		f.views.removeWaiter(w, true)
	}
	f.waiters = nil
}

// Next returns the index of the newest state and the changes since the last frame,
// as soon as there is one, or without changes after maxWait.
func (f *Follower) Next(ctx context.Context, maxWait time.Duration) (uint64, []Change, error) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for over := false; ; {
		index, changes := f.frame()
		if over || len(changes) > 0 {
			return index, changes, nil
		}
		// What was marked since frame returned has woken nobody: park sees it.
		if !f.park() {
			continue
		}
		select {
		case <-f.group.woken:
		case <-timer.C:
			over = true
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

// frame reads the dirty queries until none is: then all answers are those of the
// newest state. If the state changes faster than that, the last round runs at one
// snapshot.
func (f *Follower) frame() (uint64, []Change) {
	var changes []Change
	seen := map[*waiter]int{} // place in changes
	for round := 0; ; round++ {
		dirty, snap := f.takeDirty()
		for _, w := range dirty {
			var ans Answer
			if round < maxRounds {
				ans = f.views.ask(w.view, w.query)
			} else {
				ans = w.query(snap)
			}
			if ans.Encoding != nil && ans.Encoding == w.last {
				continue
			}
			w.last = ans.Encoding
			if at, again := seen[w]; again {
				changes[at].Answer = ans
				continue
			}
			seen[w] = len(changes)
			changes = append(changes, Change{w.name, ans})
		}
		if len(dirty) == 0 || round == maxRounds {
			return snap.Index(), changes
		}
	}
}

// takeDirty returns the dirty queries and the newest snapshot: all other queries
// have the same answer there as in the last frame.
func (f *Follower) takeDirty() ([]*waiter, *state.Snapshot) {
	f.views.mu.Lock()
	defer f.views.mu.Unlock()
	f.group.parked = false
	dirty := f.group.dirty
	f.group.dirty = nil
	for _, w := range dirty {
		w.dirty = false
	}
	return dirty, f.views.current.Load()
}

// park marks the Follower as waiting, unless a query is dirty.
func (f *Follower) park() bool {
	f.views.mu.Lock()
	defer f.views.mu.Unlock()
	f.group.parked = len(f.group.dirty) == 0
	return f.group.parked
}
