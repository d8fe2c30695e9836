package view

import (
	"container/list"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Limits of what is kept for those who ask the same again.
const (
	MaxShared      = 4096     // answers
	MaxSharedBytes = 64 << 20 // of their encodings
)

// Encoding is where the bytes of a shared answer are kept once somebody has
// made them. Who reads bytes from it does not change them.
type Encoding struct {
	bytes atomic.Pointer[[]byte]
	board *Board
	entry *shared
}

// Bytes are the kept bytes, nil before Keep.
func (e *Encoding) Bytes() []byte {
	if p := e.bytes.Load(); p != nil {
		return *p
	}
	return nil
}

// Keep keeps the encoding of the answer for the next reader.
func (e *Encoding) Keep(b []byte) {
	if e.bytes.CompareAndSwap(nil, &b) {
		e.board.grow(e, len(b))
	}
}

// shared is an answer that every reader of one key gets until something it was
// read from changes. Its waiter belongs to no group: being dirty is all.
type shared struct {
	waiter
	key  string
	use  *list.Element // its place in the order of use; nil once evicted
	size int           // bytes of the encoding

	flight sync.Mutex // held by the one reader that asks anew
	ans    Answer     // guarded by Board.mu, like the waiter
	asking bool       // ans is being replaced: clean or not, it is old
}

// holds says whether the answer is that of the newest snapshot.
func (e *shared) holds() bool { return !e.dirty && !e.asking }

// sharedAnswers are all of them, the least recently used last.
type sharedAnswers struct {
	byKey map[string]*shared
	order list.List
	bytes int
}

// answer runs q, or gives what it gave before where nothing has changed since.
// Queries that are equal have the same key; "" shares nothing.
func (b *Board) answer(key string, q Query) Answer {
	if key == "" {
		return q(b.Snapshot())
	}
	e, ans, ok := b.lookUp(key)
	if ok {
		return ans
	}
	e.flight.Lock()
	defer e.flight.Unlock()
	snap, ans, ok := b.begin(e)
	if ok {
		return ans // another reader was quicker
	}
	return b.fill(e, snap, q(snap))
}

// lookUp finds the entry of a key, or makes one, and says whether its answer
// still holds.
func (b *Board) lookUp(key string) (*shared, Answer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.shared.byKey[key]
	if e == nil {
		e = &shared{key: key}
		e.dirty = true
		e.use = b.shared.order.PushFront(e)
		b.shared.byKey[key] = e
		b.evict()
		return e, Answer{}, false
	}
	b.shared.order.MoveToFront(e.use)
	return e, e.ans, e.holds()
}

// begin marks an entry clean as of the snapshot it returns: what changes from
// now on makes it dirty again.
func (b *Board) begin(e *shared) (*state.Snapshot, Answer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.holds() {
		return nil, e.ans, true
	}
	e.dirty, e.asking = false, true
	return b.current.Load(), Answer{}, false
}

func (b *Board) fill(e *shared, snap *state.Snapshot, ans Answer) Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := e.ans.Encoding; old != nil && !changed(e.ans, ans) {
		ans.Encoding = old // only the index moved
	} else {
		b.shared.bytes -= e.size
		e.size = 0
		ans.Encoding = &Encoding{board: b, entry: e}
	}
	e.ans, e.asking = ans, false
	if e.use == nil {
		return ans // evicted meanwhile
	}
	if !reflect.DeepEqual(e.watch, ans.Meta.Watch) {
		b.waiters.remove(&e.waiter)
		e.watch = ans.Meta.Watch
		b.waiters.add(&e.waiter)
		if b.current.Load() != snap {
			e.dirty = true // what it now watches may have changed unseen
		}
	}
	return ans
}

// grow counts the bytes of an encoding.
func (b *Board) grow(enc *Encoding, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := enc.entry; e.use != nil && e.ans.Encoding == enc {
		e.size = n
		b.shared.bytes += n
		b.evict()
	}
}

// evict drops what was not used for longest until the limits hold.
func (b *Board) evict() {
	for len(b.shared.byKey) > MaxShared || b.shared.bytes > MaxSharedBytes && len(b.shared.byKey) > 1 {
		e := b.shared.order.Remove(b.shared.order.Back()).(*shared)
		e.use = nil
		delete(b.shared.byKey, e.key)
		b.shared.bytes -= e.size
		b.waiters.remove(&e.waiter)
	}
}
