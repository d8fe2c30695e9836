package view

import (
	"sync/atomic"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// waiter is one waiting query: a blocked read, or one query of a Follower. All but
// delivered is guarded by Views.mu.
type waiter struct {
	view  *shared
	group *group

	// Of a blocked read.
	min       uint64 // it returns with an answer above this index
	delivered atomic.Pointer[Answer]

	// Of a Follower.
	name  string
	query Query
	last  *Encoding // of the answer in the last frame
	dirty bool      // it is in group.dirty
}

// group is the waiters of one goroutine: a blocked read has one, a Follower one for
// each of its queries. woken holds at most one token, so any number of changes
// before the goroutine runs wakes it once.
type group struct {
	woken  chan struct{}
	follow bool
	parked bool      // the Follower waits
	dirty  []*waiter // what the Follower has to read again
}

func newGroup() *group { return &group{woken: make(chan struct{}, 1)} }

func (g *group) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// markDirty notes that a query of a Follower has to be read again. It does not wake
// the Follower: most often its answer has not changed.
func (w *waiter) markDirty() {
	if !w.dirty {
		w.dirty = true
		w.group.dirty = append(w.group.dirty, w)
	}
}

// invalidate notes that something that the view was read from has changed.
func (v *shared) invalidate() {
	v.dirty = true
	for w := range v.followed {
		w.markDirty()
	}
	v.wakeRefresher()
}

// wakeRefresher wakes one waiter of a dirty view that nobody refreshes yet. If none is
// parked, the next waiter that reads the view refreshes it. The invariant: while a
// waiter is parked at a view that is not fresh, either a refresher was woken and has
// not run the query yet, or the query runs.
func (v *shared) wakeRefresher() {
	if !v.dirty || v.refreshing || v.refresher != nil {
		return
	}
	for w := range v.polled {
		v.refresher = w
		w.group.wake()
		return
	}
	for w := range v.followed {
		if w.group.parked {
			w.group.parked = false
			w.markDirty() // it may be clean: the last round of a frame does not use the view
			v.refresher = w
			w.group.wake()
			return
		}
	}
}

// deliver gives a new answer to the blocked reads that wait for it. It returns their
// groups and those of dirty Followers, to be woken without the lock.
func (vs *Views) deliver(v *shared, ans *Answer, restored bool) []*group {
	wake := make([]*group, 0, len(v.polled))
	for w := range v.polled {
		if restored || ans.Meta.Index > w.min {
			w.delivered.Store(ans)
			wake = append(wake, w.group)
			delete(v.polled, w)
			vs.waiting--
		}
	}
	for w := range v.followed {
		if w.dirty && w.group.parked {
			w.group.parked = false
			wake = append(wake, w.group)
		}
	}
	vs.release(v)
	return wake
}

// addWaiter adds a waiter to its view, which then is not evicted.
func (vs *Views) addWaiter(w *waiter) {
	v := w.view
	into := &v.polled
	if w.group.follow {
		into = &v.followed
	}
	if *into == nil {
		*into = map[*waiter]struct{}{}
	}
	(*into)[w] = struct{}{}
	vs.waiting++
	vs.cache.pin(v)
}

// removeWaiter removes a waiter from its view. A waiter that is gone will not run the
// query: if it was the refresher, another is woken.
func (vs *Views) removeWaiter(w *waiter, gone bool) {
	v := w.view
	delete(v.polled, w)
	delete(v.followed, w)
	vs.waiting--
	if v.refresher == w && gone {
		v.refresher = nil
		v.wakeRefresher()
	}
	vs.release(v)
}

// release lets a view without waiters be evicted.
func (vs *Views) release(v *shared) {
	if len(v.polled)+len(v.followed) == 0 {
		v.polled, v.followed = nil, nil
		vs.cache.unpin(v)
	}
}

// index finds views by what they were read from: exact keys in one map, prefixes in
// another. A touch costs one look-up for each distinct length of a watched prefix.
type index struct {
	all      map[*shared]struct{}
	exact    map[state.Touch]map[*shared]struct{}
	prefixes map[state.Touch]map[*shared]struct{}
	lengths  map[int]int // length of a watched prefix -> number of watches
}

func newIndex() index {
	return index{
		all:      map[*shared]struct{}{},
		exact:    map[state.Touch]map[*shared]struct{}{},
		prefixes: map[state.Touch]map[*shared]struct{}{},
		lengths:  map[int]int{},
	}
}

func (ix *index) add(v *shared) {
	ix.all[v] = struct{}{}
	for _, watch := range v.watch {
		at := state.Touch{Topic: watch.Topic, Key: watch.Key}
		into := ix.exact
		if watch.Prefix {
			into = ix.prefixes
			ix.lengths[len(watch.Key)]++
		}
		if into[at] == nil {
			into[at] = map[*shared]struct{}{}
		}
		into[at][v] = struct{}{}
	}
}

func (ix *index) remove(v *shared) {
	delete(ix.all, v)
	for _, watch := range v.watch {
		at := state.Touch{Topic: watch.Topic, Key: watch.Key}
		from := ix.exact
		if watch.Prefix {
			from = ix.prefixes
			if ix.lengths[len(watch.Key)]--; ix.lengths[len(watch.Key)] == 0 {
				delete(ix.lengths, len(watch.Key))
			}
		}
		delete(from[at], v)
		if len(from[at]) == 0 {
			delete(from, at)
		}
	}
}

// each calls do with every view that was read from what was touched.
func (ix *index) each(t state.Touch, do func(*shared)) {
	for v := range ix.exact[t] {
		do(v)
	}
	for n := range ix.lengths {
		if n > len(t.Key) {
			continue
		}
		for v := range ix.prefixes[state.Touch{Topic: t.Topic, Key: t.Key[:n]}] {
			do(v)
		}
	}
}
