package view

import (
	"sync/atomic"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// waiter is one query that somebody waits for: a blocked read, or one query of a
// Follower. All but given is guarded by Board.mu.
type waiter struct {
	view  *shared
	group *group

	// Of a blocked read: it returns with an answer above this index.
	min   uint64
	given atomic.Pointer[Answer]

	// Of a Follower.
	name  string
	query Query
	last  *Encoding // of the answer that was in a frame
	dirty bool      // it is in group.dirty
}

// group is who waits: a blocked read has one waiter, a Follower one for each of
// its queries. woken holds at most one token: any number of changes before the
// group looks are one wake.
type group struct {
	woken  chan struct{}
	follow bool
	parked bool      // it does wait, and is not busy with what it got
	dirty  []*waiter // what a Follower has to look at again
}

func newGroup() *group { return &group{woken: make(chan struct{}, 1)} }

func (g *group) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// mark notes that what a Follower has seen may be old. It does not wake it: most
// often there is nothing new to be seen.
func (w *waiter) mark() {
	if !w.dirty {
		w.dirty = true
		w.group.dirty = append(w.group.dirty, w)
	}
}

// touch notes that something the view was read from has changed.
func (v *shared) touch() {
	v.dirty = true
	for w := range v.followed {
		w.mark()
	}
	v.sendScout()
}

// sendScout wakes one of those who wait for a view that nobody is about to ask
// anew. Where all are busy, the first to come back asks. The rule that it keeps:
// while somebody is parked at a view that does not hold, there is a scout that
// has been woken and not yet come to ask, or a query runs.
func (v *shared) sendScout() {
	if !v.dirty || v.asking || v.scout != nil {
		return
	}
	for w := range v.polled {
		v.scout = w
		w.group.wake()
		return
	}
	for w := range v.followed {
		if w.group.parked {
			w.group.parked = false
			w.mark() // or it would not ask: it may have done so by itself, see frame
			v.scout = w
			w.group.wake()
			return
		}
	}
}

// tell hands a new answer to the blocked reads that it ends, and returns them
// with the Followers that have to look: they are woken when the lock is free.
func (b *Board) tell(v *shared, ans *Answer, restored bool) []*group {
	wake := make([]*group, 0, len(v.polled))
	for w := range v.polled {
		if restored || ans.Meta.Index > w.min {
			w.given.Store(ans)
			wake = append(wake, w.group)
			delete(v.polled, w)
			b.waiting--
		}
	}
	for w := range v.followed {
		if w.dirty && w.group.parked {
			w.group.parked = false
			wake = append(wake, w.group)
		}
	}
	b.rest(v)
	return wake
}

// join adds a waiter to its view, which then is not evicted.
func (b *Board) join(w *waiter) {
	v := w.view
	into := &v.polled
	if w.group.follow {
		into = &v.followed
	}
	if *into == nil {
		*into = map[*waiter]struct{}{}
	}
	(*into)[w] = struct{}{}
	b.waiting++
	b.views.busy(v)
}

// part takes a waiter out of its view; for good, if it is not about to ask.
func (b *Board) part(w *waiter, forGood bool) {
	v := w.view
	delete(v.polled, w)
	delete(v.followed, w)
	b.waiting--
	if v.scout == w && forGood {
		v.scout = nil
		v.sendScout()
	}
	b.rest(v)
}

// rest lets go of a view that nobody waits for.
func (b *Board) rest(v *shared) {
	if len(v.polled)+len(v.followed) == 0 {
		v.polled, v.followed = nil, nil
		b.views.idle(v)
	}
}

// index finds views by what they were read from: exact keys in one map, prefixes
// in another that is asked once for each length in use, so a touch costs as many
// look-ups as there are different lengths of watched prefixes.
type index struct {
	all      map[*shared]struct{}
	exact    map[state.Touch]map[*shared]struct{}
	prefixes map[state.Touch]map[*shared]struct{}
	lengths  map[int]int // length of a watched prefix -> how many watch one
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
