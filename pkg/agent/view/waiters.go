package view

import "github.com/muster-dev/muster/pkg/agent/state"

// waiter is what one answer was read from. A change of any of it makes the
// waiter dirty and wakes its group. Everything here is guarded by Board.mu.
type waiter struct {
	watch []state.Watch
	group *group // nil for an answer that is only kept
	dirty bool   // it is in group.dirty
}

// group is who waits: a blocked read has one waiter, a Follower one for each of
// its queries. woken holds at most one token: any number of changes before the
// group looks are one wake.
type group struct {
	woken chan struct{}
	dirty []*waiter
}

func newGroup() *group { return &group{woken: make(chan struct{}, 1)} }

func (w *waiter) wake() {
	if w.dirty {
		return
	}
	w.dirty = true
	if w.group == nil {
		return // a shared answer: nobody waits, somebody may ask
	}
	w.group.dirty = append(w.group.dirty, w)
	select {
	case w.group.woken <- struct{}{}:
	default:
	}
}

// take hands out the dirty waiters, which are clean from then on.
func (g *group) take() []*waiter {
	dirty := g.dirty
	g.dirty = nil
	for _, w := range dirty {
		w.dirty = false
	}
	return dirty
}

type set map[*waiter]struct{}

// waiters finds readers by what they watch: exact keys in one map, prefixes in
// another that is asked once for each length in use, so a touch costs as many
// look-ups as there are different lengths of watched prefixes.
type waiters struct {
	all      set
	waiting  int // of all: those of a group
	exact    map[state.Touch]set
	prefixes map[state.Touch]set
	lengths  map[int]int // length of a watched prefix -> how many watch one
}

func newWaiters() waiters {
	return waiters{
		all:      set{},
		exact:    map[state.Touch]set{},
		prefixes: map[state.Touch]set{},
		lengths:  map[int]int{},
	}
}

func (ws *waiters) add(w *waiter) {
	ws.all[w] = struct{}{}
	if w.group != nil {
		ws.waiting++
	}
	for _, watch := range w.watch {
		at := state.Touch{Topic: watch.Topic, Key: watch.Key}
		into := ws.exact
		if watch.Prefix {
			into = ws.prefixes
			ws.lengths[len(watch.Key)]++
		}
		if into[at] == nil {
			into[at] = set{}
		}
		into[at][w] = struct{}{}
	}
}

func (ws *waiters) remove(w *waiter) {
	if _, ok := ws.all[w]; !ok {
		return // a shared answer that was never filled
	}
	delete(ws.all, w)
	if w.group != nil {
		ws.waiting--
	}
	for _, watch := range w.watch {
		at := state.Touch{Topic: watch.Topic, Key: watch.Key}
		from := ws.exact
		if watch.Prefix {
			from = ws.prefixes
			if ws.lengths[len(watch.Key)]--; ws.lengths[len(watch.Key)] == 0 {
				delete(ws.lengths, len(watch.Key))
			}
		}
		delete(from[at], w)
		if len(from[at]) == 0 {
			delete(from, at)
		}
	}
}

func (ws *waiters) wake(t state.Touch) {
	for w := range ws.exact[t] {
		w.wake()
	}
	for n := range ws.lengths {
		if n > len(t.Key) {
			continue
		}
		for w := range ws.prefixes[state.Touch{Topic: t.Topic, Key: t.Key[:n]}] {
			w.wake()
		}
	}
}

func (ws *waiters) wakeAll() {
	for w := range ws.all {
		w.wake()
	}
}
