package view

import (
	"container/list"
	"reflect"
	"sync"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Limits of what is kept for those who ask the same again. Views that somebody
// waits for are kept anyway; who may wait is bounded elsewhere.
const (
	MaxShared      = 4096     // views that nobody waits for
	MaxSharedBytes = 64 << 20 // of the encodings of all views
)

// shared is a view: an answer that everybody with one key gets until something
// it was read from changes. All but flight is guarded by Board.mu.
type shared struct {
	key      string
	kept     bool          // readers with its key find it
	use      *list.Element // its place in the order of use, while nobody waits for it
	listed   bool          // the index knows it, so that it learns of changes
	watch    []state.Watch
	ans      Answer
	dirty    bool // something that ans was read from has changed since
	asking   bool // ans is being replaced: dirty or not, it is old
	restored bool // the state was replaced since ans

	polled   map[*waiter]struct{} // blocked reads
	followed map[*waiter]struct{} // queries of Followers
	scout    *waiter              // has been woken to ask anew

	flight sync.Mutex // held by the one reader that asks anew
}

// holds says whether the answer is that of the newest snapshot.
func (v *shared) holds() bool { return v.listed && !v.dirty && !v.asking }

// views are all of them that are kept.
type views struct {
	index  index
	byKey  map[string]*shared
	unused list.List // *shared that nobody waits for, the least recently used last
	forms  list.List // *Encoding with bytes, likewise
	bytes  int       // of them
}

func newViews() views { return views{index: newIndex(), byKey: map[string]*shared{}} }

// lookUp finds the view of a key, or makes one, and says whether its answer
// still holds.
func (b *Board) lookUp(key string) (*shared, Answer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.views.find(key)
	return v, v.ans, v.holds()
}

func (vs *views) find(key string) *shared {
	if key == "" {
		return &shared{dirty: true}
	}
	v := vs.byKey[key]
	if v == nil {
		v = &shared{key: key, kept: true}
		vs.byKey[key] = v
		vs.list(v)
		vs.idle(v)
		return v
	}
	if v.use != nil {
		vs.unused.MoveToFront(v.use)
	}
	if e := v.ans.Encoding; e != nil && e.place != nil {
		vs.forms.MoveToFront(e.place)
	}
	return v
}

// list makes the index know a view. What happened before is not known, so that
// it does not hold.
func (vs *views) list(v *shared) {
	if !v.listed {
		v.listed, v.dirty = true, true
		vs.index.add(v)
	}
}

func (vs *views) unlist(v *shared) {
	if v.listed {
		v.listed = false
		vs.index.remove(v)
		vs.drop(v.ans.Encoding)
	}
}

// busy keeps a view that somebody waits for from being evicted.
func (vs *views) busy(v *shared) {
	if v.use != nil {
		vs.unused.Remove(v.use)
		v.use = nil
	}
}

// idle lets a view be evicted: it has no waiters.
func (vs *views) idle(v *shared) {
	switch {
	case !v.kept:
		vs.unlist(v)
	case v.use == nil:
		v.use = vs.unused.PushFront(v)
		vs.evict()
	}
}

// evict forgets the views that were not used for longest until the limit holds.
func (vs *views) evict() {
	for vs.unused.Len() > MaxShared {
		v := vs.unused.Remove(vs.unused.Back()).(*shared)
		v.use, v.kept = nil, false
		delete(vs.byKey, v.key)
		vs.unlist(v)
	}
}

// ask gives the view's answer, by q where it does not hold any more.
func (b *Board) ask(v *shared, q Query) Answer {
	if ans, ok := b.look(v); ok {
		return ans
	}
	v.flight.Lock()
	defer v.flight.Unlock()
	snap, ans, ok := b.begin(v)
	if ok {
		return ans // another reader was quicker
	}
	filled := false
	defer func() {
		if !filled {
			b.failed(v) // q panicked, which is its reader's affair
		}
	}()
	ans, wake := b.fill(v, snap, q(snap))
	filled = true
	for _, g := range wake {
		g.wake()
	}
	return ans
}

func (b *Board) look(v *shared) (Answer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return v.ans, v.holds()
}

// begin marks a view clean as of the snapshot it returns: what changes from now
// on makes it dirty again. Whoever was sent as its scout need not come.
func (b *Board) begin(v *shared) (*state.Snapshot, Answer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.scout = nil
	if v.holds() {
		return nil, v.ans, true
	}
	v.dirty, v.asking = false, true
	return b.current.Load(), Answer{}, false
}

func (b *Board) failed(v *shared) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.dirty, v.asking = true, false
	v.sendScout()
}

// fill takes the answer over and returns whom to wake.
func (b *Board) fill(v *shared, snap *state.Snapshot, ans Answer) (Answer, []*group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := v.ans.Encoding
	fresh := old == nil || changed(v.ans, ans)
	if fresh {
		b.views.drop(old)
		old = &Encoding{board: b, view: v}
	}
	ans.Encoding = old // if the same: only the index moved
	v.ans, v.asking = ans, false
	b.views.rewatch(v, ans.Meta.Watch, b.current.Load() != snap)
	restored := v.restored && !v.dirty
	if restored {
		v.restored = false
	}
	var wake []*group
	if fresh || restored {
		wake = b.tell(v, &ans, restored)
	}
	v.sendScout() // one of those who wait still
	return ans, wake
}

// rewatch notes what a view is read from now. If that was something else, and
// the state has moved on, it may have changed unseen.
func (vs *views) rewatch(v *shared, watch []state.Watch, moved bool) {
	if reflect.DeepEqual(v.watch, watch) {
		return
	}
	if !v.listed {
		v.watch = watch
		return
	}
	vs.index.remove(v)
	v.watch = watch
	vs.index.add(v)
	if moved {
		v.touch()
	}
}

func changed(before, after Answer) bool {
	return before.Missing != after.Missing || !reflect.DeepEqual(before.Value, after.Value)
}
