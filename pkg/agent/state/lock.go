package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// The locks, lock-delays and expiries of keys have tables of their own, since most
// keys have none of them.

// A lock is a key that a session holds. Index is the raft index at which the session
// acquired it: the fencing token. The holder may write the key again, which changes
// its ModifyIndex but not Index.
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

// An expiry is when a key is removed because its TTL is over, in unix nanoseconds.
type expiry struct {
	Key string
	At  int64
}

// A Fence allows a write only while Key is held and was acquired at the raft index
// Token.
type Fence struct {
	Key   string `codec:"k"`
	Token uint64 `codec:"t"`
}

// Reap removes the keys and durable events that have expired, up to about maxReaped
// of each, and the lock-delays that are over. Its result says whether there are more.
type Reap struct{}

func (*Reap) kind() byte { return typeReap }

func (*Reap) level() int { return levelSessions }

func (*Reap) apply(x *tx) any { return x.reap() }

// maxReaped limits the work of one command.
const maxReaped = 1024

// Why a lock is not acquired. The result of a KV command is false for both.
var (
	errHeld    = errors.New("lock is already held")
	errDelayed = errors.New("lock delay")
)

func (r reader) lockOf(key string) *lock {
	return first[lock](r, tableLocks, "id", []byte(key))
}

// checkSession returns an error if a lock verb cannot use the session.
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
// errDelayed. The caller has called checkSession.
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

// kvUnlock writes a key and releases it, if the session holds it.
func (x *tx) kvUnlock(want *api.KVPair) (*api.KVPair, bool) {
	old := x.kvEntry(want.Key)
	if old == nil || want.Session == "" || old.Session != want.Session {
		return nil, false
	}
	return x.kvPut(old, &api.KVPair{Key: want.Key, Value: want.Value, Flags: want.Flags, LockIndex: old.LockIndex}), true
}

// delayed says whether a lock-delay keeps a key from being acquired. The time is in
// the command, so every server decides the same.
func (x *tx) delayed(key string) bool {
	d := first[lockDelay](x.reader, tableDelays, "id", []byte(key))
	return d != nil && x.now < d.Until
}

// updateLock updates the lock of a key whose entry changes from old to updated;
// either may be nil.
func (x *tx) updateLock(key string, old, updated *api.KVPair) {
	before, after := "", ""
	if old != nil {
		before = old.Session
	}
	if updated != nil {
		after = updated.Session
	}
	switch {
	case before == after:
	case after != "":
		x.insert(tableLocks, &lock{key, after, x.Index})
		if d := first[lockDelay](x.reader, tableDelays, "id", []byte(key)); d != nil {
			x.delete(tableDelays, d)
		}
	default:
		if l := x.lockOf(key); l != nil {
			x.delete(tableLocks, l)
		}
	}
}

// expire sets the TTL of a key, limited to api.MaxKVTTL; 0 removes it.
func (x *tx) expire(key string, ttl time.Duration) {
	if ttl > 0 {
		x.insert(tableExpiries, &expiry{key, x.now + int64(min(ttl, api.MaxKVTTL))})
		x.touch(topicDeadlines, "")
	} else if old := first[expiry](x.reader, tableExpiries, "id", []byte(key)); old != nil {
		x.delete(tableExpiries, old)
	}
}

// reap runs Reap.
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

// passes says whether a fence allows a write. Nil allows every write.
func (r reader) passes(f *Fence) bool {
	if f == nil {
		return true
	}
	l := r.lockOf(f.Key)
	return l != nil && l.Index == f.Token
}

// atKey is a key that sorts by time.
func atKey(nanos int64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(nanos)^1<<63)
}

// LockToken is the fencing token of a key: the raft index at which its holder
// acquired it; 0 if nobody holds it.
func (sn *Snapshot) LockToken(key string) uint64 {
	if l := sn.read().lockOf(key); l != nil {
		return l.Index
	}
	return 0
}

// NextReap is when a Reap has something to do, the zero time for never: when the next
// key or durable event expires, or a minute after the end of the oldest lock-delay.
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
