package state

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

var (
	errNoKey     = errors.New("Must provide key")
	errNoSession = errors.New("missing session")
)

// Acquired is the result of a KVLock that succeeded: the fencing token of this
// acquisition, or of the existing one if the session holds the key already. When the
// proposer reads the state, it may have another holder.
type Acquired uint64

// kv runs a KV command: a bool, an Acquired or an error.
func (x *tx) kv(c *KV) any {
	if c.Entry.Key == "" && c.Op != KVDeleteTree {
		return errNoKey
	}
	if !x.passes(c.Fence) {
		return false
	}
	done, err := x.kvVerb(c)
	if err != nil {
		return err
	}
	if done && c.Op.writes() {
		x.expire(c.Entry.Key, c.TTL)
	}
	if done && c.Op == KVLock {
		return Acquired(x.lockOf(c.Entry.Key).Index)
	}
	return done
}

// writes says whether the verb writes an entry.
func (op KVOp) writes() bool {
	switch op {
	case KVSet, KVCAS, KVLock, KVUnlock:
		return true
	}
	return false
}

// valid says whether kvVerb knows the verb.
func (op KVOp) valid() bool {
	switch op {
	case KVDelete, KVDeleteCAS, KVDeleteTree:
		return true
	}
	return op.writes()
}

// kvVerb runs a verb and returns whether its condition held.
func (x *tx) kvVerb(c *KV) (bool, error) {
	switch c.Op {
	case KVSet:
		x.kvSet(&c.Entry)
		return true, nil
	case KVCAS:
		_, ok := x.kvCAS(&c.Entry, c.Index)
		return ok, nil
	case KVLock:
		if err := x.checkSession(c.Entry.Session); err != nil {
			return false, err
		}
		_, err := x.kvLock(&c.Entry)
		return err == nil, nil
	case KVUnlock:
		if c.Entry.Session == "" {
			return false, errNoSession
		}
		_, ok := x.kvUnlock(&c.Entry)
		return ok, nil
	case KVDelete:
		x.kvDelete(x.kvEntry(c.Entry.Key))
		return true, nil
	case KVDeleteCAS:
		return x.kvDeleteCAS(c.Entry.Key, c.Index), nil
	case KVDeleteTree:
		x.kvDeleteTree(c.Entry.Key)
		return true, nil
	}
	return false, fmt.Errorf("unknown KV verb %q", string(c.Op))
}

func (r reader) kvEntry(key string) *api.KVPair {
	return first[api.KVPair](r, tableKV, "id", []byte(key))
}

// kvSet writes a key and returns the new entry. A lock on the key stays, but its
// LockIndex becomes 0.
func (x *tx) kvSet(want *api.KVPair) *api.KVPair {
	old := x.kvEntry(want.Key)
	e := &api.KVPair{Key: want.Key, Value: want.Value, Flags: want.Flags}
	if old != nil {
		e.Session = old.Session
	}
	return x.kvPut(old, e)
}

// kvPut replaces old (nil if the key is new) by e, which the store keeps, and returns
// the entry. Writing an equal entry changes nothing.
func (x *tx) kvPut(old, e *api.KVPair) *api.KVPair {
	if len(e.Value) == 0 {
		e.Value = nil
	}
	e.CreateIndex, e.ModifyIndex = x.Index, x.Index
	if old != nil {
		if sameEntry(old, e) {
			return old
		}
		e.CreateIndex = old.CreateIndex
	} else {
		x.stats.Keys++
	}
	x.changes.add(change{x.Index, old, e})
	x.updateLock(e.Key, old, e)
	x.insert(tableKV, e)
	x.KVIndex = x.Index
	if old == nil && x.tombstones[topicKV] > 0 {
		x.touch(topicKV, e.Key) // there may be a tombstone
	} else {
		x.touched[Touch{topicKV, e.Key}] = struct{}{} // a key that exists has no change index
	}
	return e
}

func sameEntry(a, b *api.KVPair) bool {
	return a.Flags == b.Flags && a.LockIndex == b.LockIndex && a.Session == b.Session && bytes.Equal(a.Value, b.Value)
}

// kvCAS writes a key if its ModifyIndex is index, or, for 0, if it is absent.
func (x *tx) kvCAS(want *api.KVPair, index uint64) (*api.KVPair, bool) {
	old := x.kvEntry(want.Key)
	if old == nil && index != 0 || old != nil && (index == 0 || old.ModifyIndex != index) {
		return nil, false
	}
	return x.kvSet(want), true
}

func (x *tx) kvDelete(e *api.KVPair) {
	if e != nil {
		x.kvRemove(e)
		x.touch(topicKV, e.Key)
	}
}

// kvRemove removes the row and does not touch its key.
func (x *tx) kvRemove(e *api.KVPair) {
	x.delete(tableKV, e)
	x.changes.add(change{x.Index, e, nil})
	x.updateLock(e.Key, e, nil)
	x.expire(e.Key, 0)
	x.stats.Keys--
	x.KVIndex = x.Index
}

// kvDeleteCAS returns whether the key is deleted.
func (x *tx) kvDeleteCAS(key string, index uint64) bool {
	e := x.kvEntry(key)
	if e != nil && e.ModifyIndex != index {
		return false
	}
	x.kvDelete(e)
	return true
}

// kvDeleteTree writes one tombstone per key, up to maxTombstones. The floor stands for
// the others.
func (x *tx) kvDeleteTree(prefix string) {
	n := 0
	for e := range scan[api.KVPair](x.reader, tableKV, "id_prefix", []byte(prefix)) {
		if n++; n <= x.maxTombstones {
			x.kvDelete(e)
			continue
		}
		x.kvRemove(e)
		x.touched[Touch{topicKV, e.Key}] = struct{}{}
		x.Floors[topicKV] = x.Index
	}
}

// KVGet returns an entry, or nil. The index is the entry's ModifyIndex or, if there is
// none, that of its removal.
func (sn *Snapshot) KVGet(key string) (*api.KVPair, Meta) {
	r := sn.read()
	w := Watch{Topic: topicKV, Key: key}
	if e := r.kvEntry(key); e != nil {
		return e, Meta{Index: e.ModifyIndex, Watch: []Watch{w}}
	}
	return nil, r.meta(w)
}

// KVList returns the entries whose keys begin with prefix, in order of keys.
func (sn *Snapshot) KVList(prefix string) ([]*api.KVPair, Meta) {
	r := sn.read()
	entries := []*api.KVPair{}
	var newest uint64
	for e := range scan[api.KVPair](r, tableKV, "id_prefix", []byte(prefix)) {
		entries = append(entries, e)
		newest = max(newest, e.ModifyIndex)
	}
	return entries, r.kvMeta(prefix, newest)
}

// KVKeys returns the keys that begin with prefix, in order. With a separator each is
// cut after the first one behind the prefix, without duplicates.
func (sn *Snapshot) KVKeys(prefix, separator string) ([]string, Meta) {
	r := sn.read()
	keys := []string{}
	var newest uint64
	for e := range scan[api.KVPair](r, tableKV, "id_prefix", []byte(prefix)) {
		newest = max(newest, e.ModifyIndex)
		key := e.Key
		if separator != "" {
			if i := strings.Index(key[len(prefix):], separator); i >= 0 {
				key = key[:len(prefix)+i+len(separator)]
			}
		}
		if n := len(keys); n == 0 || keys[n-1] != key {
			keys = append(keys, key)
		}
	}
	return keys, r.kvMeta(prefix, newest)
}

// kvMeta is the Meta of a list whose newest entry is given. It includes what was
// removed below the prefix.
func (r reader) kvMeta(prefix string, newest uint64) Meta {
	w := Watch{Topic: topicKV, Key: prefix, Prefix: true}
	if prefix == "" {
		return Meta{Index: max(1, r.KVIndex), Watch: []Watch{w}}
	}
	return Meta{Index: max(1, newest, r.lastChange(w)), Watch: []Watch{w}}
}
