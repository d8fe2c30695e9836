package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// What the key/value store holds beside its entries, each in a table of its own:
// most keys have none of it.

// A lock is there for each key that a session holds. Index is the raft index at
// which the session acquired it: the fencing token. The holder may write the key
// again, which moves its ModifyIndex but not this.
type lock struct {
	Key     string
	Session string
	Index   uint64
}

// A lockDelay keeps a key from being acquired until a time, in unix nanoseconds.
type lockDelay struct {
	Key   string
	Until int64
}

// An expiry says when a key vanishes by itself, in unix nanoseconds.
type expiry struct {
	Key string
	At  int64
}

// A Fence lets a write through only while Key is held, and was acquired at the
// raft index Token.
type Fence struct {
	Key   string `codec:"k"`
	Token uint64 `codec:"t"`
}

// Reap removes the keys and the durable events whose time is over, up to about
// maxReaped of each, and forgets lock-delays that are over. Its result is whether more is to be done at once.
type Reap struct{}

func (*Reap) kind() byte { return typeReap }

func (*Reap) level() int { return levelSessions }

func (*Reap) apply(x *tx) any { return x.reap() }

// maxReaped bounds the work of one command; more take several.
const maxReaped = 1024

// Why a lock is not given; for a KV command both are no error but false.
var (
	errHeld    = errors.New("lock is already held")
	errDelayed = errors.New("lock delay")
)

func (r reader) lockOf(key string) *lock {
	return first[lock](r, tableLocks, "id", []byte(key))
}

// checkSession says what is wrong with the session of a lock verb.
func (r reader) checkSession(id string) error {
	if id == "" {
		return errNoSession
	}
	if r.session(id) == nil {
		return fmt.Errorf("invalid session %q", id)
	}
	return nil
}

// kvLock writes a key and makes the session its holder. The error is errHeld or
// errDelayed; checkSession has agreed.
func (x *tx) kvLock(want *api.KVPair) (*api.KVPair, error) {
	old := x.kvEntry(want.Key)
	e := &api.KVPair{Key: want.Key, Value: want.Value, Flags: want.Flags, Session: want.Session}
	switch {
	case old != nil && old.Session == want.Session:
		e.LockIndex = old.LockIndex
		return x.kvPut(old, e), nil
	case old != nil && old.Session != "":
		return nil, errHeld
	case x.delayed(want.Key):
		return nil, errDelayed
	case old != nil:
		e.LockIndex = old.LockIndex
	}
	e.LockIndex++
	return x.kvPut(old, e), nil
}

// kvUnlock writes a key and frees it, if the session holds it.
func (x *tx) kvUnlock(want *api.KVPair) (*api.KVPair, bool) {
	old := x.kvEntry(want.Key)
	if old == nil || want.Session == "" || old.Session != want.Session {
		return nil, false
	}
	return x.kvPut(old, &api.KVPair{Key: want.Key, Value: want.Value, Flags: want.Flags, LockIndex: old.LockIndex}), true
}

// delayed tells whether a key may not be acquired yet. The time is that of
// whoever proposed the command, so every server decides alike.
func (x *tx) delayed(key string) bool {
	d := first[lockDelay](x.reader, tableDelays, "id", []byte(key))
	return d != nil && x.now < d.Until
}

// updateLock keeps the lock of a key true when its entry changes from old to now;
// either may be nil.
func (x *tx) updateLock(key string, old, updated *api.KVPair) {
	had, has := "", ""
	if old != nil {
		had = old.Session
	}
	if updated != nil {
		has = updated.Session
	}
	switch {
	case had == has:
	case has != "":
		x.insert(tableLocks, &lock{key, has, x.Index})
		if d := first[lockDelay](x.reader, tableDelays, "id", []byte(key)); d != nil {
			x.delete(tableDelays, d)
		}
	default:
		if l := x.lockOf(key); l != nil {
			x.delete(tableLocks, l)
		}
	}
}

// expire makes a key vanish after ttl, api.MaxKVTTL at most; 0 makes it stay.
func (x *tx) expire(key string, ttl time.Duration) {
	if ttl > 0 {
		x.insert(tableExpiries, &expiry{key, x.now + int64(min(ttl, api.MaxKVTTL))})
		x.touch(topicDeadlines, "")
	} else if old := first[expiry](x.reader, tableExpiries, "id", []byte(key)); old != nil {
		x.delete(tableExpiries, old)
	}
}

// reap does what Reap says.
func (x *tx) reap() bool {
	n := 0
	for e := range scan[expiry](x.reader, tableExpiries, "at_prefix", nil) {
		if e.At > x.now {
			break
		}
		if n++; n > maxReaped {
			return true
		}
		x.kvDelete(x.kvEntry(e.Key))
	}
	if x.reapEvents() {
		return true
	}
	for d := range scan[lockDelay](x.reader, tableDelays, "id_prefix", nil) {
		latest := x.now + int64(api.MaxLockDelay)
		switch {
		case d.Until <= x.now:
			x.delete(tableDelays, d)
		case d.Until > latest: // set by a leader whose clock was ahead
			x.insert(tableDelays, &lockDelay{d.Key, latest})
		}
	}
	return false
}

// passes tells whether a fence lets a write through. None lets everything.
func (r reader) passes(f *Fence) bool {
	if f == nil {
		return true
	}
	l := r.lockOf(f.Key)
	return l != nil && l.Index == f.Token
}

// atKey orders times.
func atKey(nanos int64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(nanos)^1<<63)
}

// LockToken is the fencing token of a key: the raft index at which its holder
// acquired it; 0 when nobody holds it.
func (sn *Snapshot) LockToken(key string) uint64 {
	if l := sn.read().lockOf(key); l != nil {
		return l.Index
	}
	return 0
}

// NextReap is when a Reap has something to do, the zero time for never: when the
// next key or durable event expires, or a minute after the oldest lock-delay that is kept was over.
func (sn *Snapshot) NextReap() (time.Time, Meta) {
	r := sn.read()
	var at time.Time
	for e := range scan[expiry](r, tableExpiries, "at_prefix", nil) {
		at = time.Unix(0, e.At)
		break
	}
	for e := range scan[event](r, tableEvents, "at_prefix", nil) {
		if over := time.Unix(0, e.Expires); at.IsZero() || over.Before(at) {
			at = over
		}
		break
	}
	for d := range scan[lockDelay](r, tableDelays, "until_prefix", nil) {
		if over := time.Unix(0, d.Until).Add(api.MaxLockDelay); at.IsZero() || over.Before(at) {
			at = over
		}
		break
	}
	return at, r.meta(watchTopic(topicDeadlines))
}
