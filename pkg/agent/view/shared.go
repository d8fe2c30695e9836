package view

import (
	"container/list"
	"reflect"
	"sync"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Limits of what is kept for later reads. Views with waiters are always kept; the
// number of waiters is bounded elsewhere.
const (
	MaxShared      = 4096     // views without waiters
	MaxSharedBytes = 64 << 20 // bytes of the encodings of all views
)

// shared is a view: an answer that all reads with one key get until something
// that it was read from changes. All but refresh is guarded by Views.mu.
type shared struct {
	key        string
	kept       bool          // readers with its key find it
	use        *list.Element // its place in cache.unused, while it has no waiters
	indexed    bool          // the index has it, so that changes invalidate it
	watch      []state.Watch
	ans        Answer
	dirty      bool // something that ans was read from has changed since
	refreshing bool // ans is being replaced
	restored   bool // a snapshot was restored since ans

	polled    map[*waiter]struct{} // blocked reads
	followed  map[*waiter]struct{} // queries of Followers
	refresher *waiter              // the waiter that was woken to run the query

	refresh sync.Mutex // held by the one reader that runs the query
}

// fresh says whether the answer is that of the newest snapshot.
func (v *shared) fresh() bool { return v.indexed && !v.dirty && !v.refreshing }

// cache is all views that are kept.
type cache struct {
	index  index
	byKey  map[string]*shared
	unused list.List // *shared without waiters, the least recently used last
	forms  list.List // *Encoding with bytes, in the same order
	bytes  int       // of forms
}

func newCache() cache { return cache{index: newIndex(), byKey: map[string]*shared{}} }

// lookUp finds the view of a key, or makes one, and says whether it is fresh.
func (vs *Views) lookUp(key string) (*shared, Answer, bool) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v := vs.cache.find(key)
	return v, v.ans, v.fresh()
}

func (c *cache) find(key string) *shared {
	if key == "" {
		return &shared{dirty: true}
	}
	v := c.byKey[key]
	if v == nil {
		v = &shared{key: key, kept: true}
		c.byKey[key] = v
		c.register(v)
		c.unpin(v)
		return v
	}
	if v.use != nil {
		c.unused.MoveToFront(v.use)
	}
	if e := v.ans.Encoding; e != nil && e.place != nil {
		c.forms.MoveToFront(e.place)
	}
	return v
}

// register adds a view to the index. Earlier changes are not known, so it is dirty.
func (c *cache) register(v *shared) {
	if !v.indexed {
		v.indexed, v.dirty = true, true
		c.index.add(v)
	}
}

func (c *cache) unregister(v *shared) {
	if v.indexed {
		v.indexed = false
		c.index.remove(v)
		c.drop(v.ans.Encoding)
	}
}

// pin keeps a view with waiters from being evicted.
func (c *cache) pin(v *shared) {
	if v.use != nil {
		c.unused.Remove(v.use)
		v.use = nil
	}
}

// unpin lets a view without waiters be evicted.
func (c *cache) unpin(v *shared) {
	switch {
	case !v.kept:
		c.unregister(v)
	case v.use == nil:
		v.use = c.unused.PushFront(v)
		c.evict()
	}
}

// evict drops the least recently used views above the limit.
func (c *cache) evict() {
	for c.unused.Len() > MaxShared {
		v := c.unused.Remove(c.unused.Back()).(*shared)
		v.use, v.kept = nil, false
		delete(c.byKey, v.key)
		c.unregister(v)
	}
}

// ask returns the view's answer. If it is not fresh, it runs q.
func (vs *Views) ask(v *shared, q Query) Answer {
	if ans, ok := vs.peek(v); ok {
		return ans
	}
	v.refresh.Lock()
	defer v.refresh.Unlock()
	snap, ans, ok := vs.beginRefresh(v)
	if ok {
		return ans // another reader has refreshed it
	}
	done := false
	defer func() {
		if !done {
			vs.abortRefresh(v) // q panicked
		}
	}()
	ans, wake := vs.endRefresh(v, snap, q(snap))
	done = true
	for _, g := range wake {
		g.wake()
	}
	return ans
}

func (vs *Views) peek(v *shared) (Answer, bool) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return v.ans, v.fresh()
}

// beginRefresh marks a view clean as of the snapshot that it returns: later changes
// make it dirty again. A woken refresher is not needed any more.
func (vs *Views) beginRefresh(v *shared) (*state.Snapshot, Answer, bool) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v.refresher = nil
	if v.fresh() {
		return nil, v.ans, true
	}
	v.dirty, v.refreshing = false, true
	return vs.current.Load(), Answer{}, false
}

func (vs *Views) abortRefresh(v *shared) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v.dirty, v.refreshing = true, false
	v.wakeRefresher()
}

// endRefresh stores the answer and returns the groups to wake.
func (vs *Views) endRefresh(v *shared, snap *state.Snapshot, ans Answer) (Answer, []*group) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	old := v.ans.Encoding
	isNew := old == nil || changed(v.ans, ans)
	if isNew {
		vs.cache.drop(old)
		old = &Encoding{views: vs, view: v}
	}
	ans.Encoding = old // if it is the same, only the index changed
	v.ans, v.refreshing = ans, false
	vs.cache.rewatch(v, ans.Meta.Watch, vs.current.Load() != snap)
	restored := v.restored && !v.dirty
	if restored {
		v.restored = false
	}
	var wake []*group
	if isNew || restored {
		wake = vs.deliver(v, &ans, restored)
	}
	v.wakeRefresher() // if it became dirty meanwhile and has waiters left
	return ans, wake
}

// rewatch replaces what a view is read from. If that is different and the state has
// changed meanwhile, a change may have been missed.
func (c *cache) rewatch(v *shared, watch []state.Watch, moved bool) {
	if reflect.DeepEqual(v.watch, watch) {
		return
	}
	if !v.indexed {
		v.watch = watch
		return
	}
	c.index.remove(v)
	v.watch = watch
	c.index.add(v)
	if moved {
		v.invalidate()
	}
}

func changed(before, after Answer) bool {
	return before.Missing != after.Missing || !reflect.DeepEqual(before.Value, after.Value)
}
