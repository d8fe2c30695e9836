package view

import "github.com/muster-dev/muster/pkg/agent/state"

// waiter is one reader that waits. woken holds at most one token: any number of
// changes before it looks are one wake.
type waiter struct {
	watch []state.Watch
	woken chan struct{}
}

func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

type set map[*waiter]struct{}

// waiters finds readers by what they watch: exact keys in one map, prefixes in
// another that is asked once for each length in use, so a touch costs as many
// look-ups as there are different lengths of watched prefixes.
type waiters struct {
	all      set
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
	delete(ws.all, w)
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
