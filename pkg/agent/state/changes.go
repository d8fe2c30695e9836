package state

import (
	"slices"
	"sort"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// Limits of the changes of keys that a server keeps, and of the bytes of their keys
// and values. The oldest are dropped when there are a quarter more.
const (
	MaxChanges     = 1 << 14
	MaxChangeBytes = 16 << 20
)

// changeOverhead estimates the memory of a change, in bytes, without keys and values.
const changeOverhead = 128

// A changeLog keeps the last changes of keys, in order. It is no part of the state:
// it holds what this server has applied, and is empty after a snapshot is restored.
//
// Snapshots share the array behind entries: it is only appended to, and replaced by
// a copy when entries are dropped.
type changeLog struct {
	entries []change
	bytes   int
	// floor is the index after which all changes are in the log.
	floor uint64
	limit int // of entries; MaxChanges except in tests
}

// A change is one write of a key. before is nil if it created the key, after if it
// deleted it.
type change struct {
	index         uint64
	before, after *api.KVPair
}

func (c change) key() string {
	if c.after != nil {
		return c.after.Key
	}
	return c.before.Key
}

func (c change) size() int {
	n := changeOverhead + len(c.key())
	for _, e := range []*api.KVPair{c.before, c.after} {
		if e != nil {
			n += len(e.Value)
		}
	}
	return n
}

func (l *changeLog) add(c change) {
	l.entries = append(l.entries, c)
	l.bytes += c.size()
	if len(l.entries) <= l.limit+l.limit/4 && l.bytes <= MaxChangeBytes+MaxChangeBytes/4 {
		return
	}
	n := 0
	for ; len(l.entries)-n > l.limit || l.bytes > MaxChangeBytes; n++ {
		l.bytes -= l.entries[n].size()
		l.floor = l.entries[n].index
	}
	l.entries = slices.Clone(l.entries[n:])
}

// since returns the changes after an index; false if some of them were dropped.
func (l *changeLog) since(index uint64) ([]change, bool) {
	at := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].index > index })
	return l.entries[at:], index >= l.floor
}

// KVChanges returns the changes of the keys that begin with prefix since an index,
// one for each write. Instead it returns all keys, with Resync, if the changes are
// not in the log any more, if since is 0, and if since is an index that this state
// has not reached.
func (sn *Snapshot) KVChanges(prefix string, since uint64) (*api.KVChanges, Meta) {
	out := &api.KVChanges{Index: max(1, sn.root.Index), Changes: []*api.KVChange{}}
	changes, known := sn.root.changes.since(since)
	ahead := since > out.Index
	if since == 0 || !known || ahead {
		entries, meta := sn.KVList(prefix)
		if since > 0 && !ahead && meta.Index <= since {
			return out, meta // the dropped changes were of other keys
		}
		out.Resync = true
		for _, e := range entries {
			out.Changes = append(out.Changes, change{index: e.ModifyIndex, after: e}.api())
		}
		return out, meta
	}
	for _, c := range changes {
		if strings.HasPrefix(c.key(), prefix) {
			out.Changes = append(out.Changes, c.api())
		}
	}
	meta := Meta{Index: 1, Watch: []Watch{{Topic: topicKV, Key: prefix, Prefix: true}}}
	if n := len(out.Changes); n > 0 {
		meta.Index = out.Changes[n-1].Index
	}
	return out, meta
}

func (c change) api() *api.KVChange {
	out := &api.KVChange{Op: api.KVChangeDelete, Key: c.key(), Index: c.index}
	if c.after != nil {
		out.Op, out.Flags, out.Value = api.KVChangeSet, c.after.Flags, c.after.Value
	}
	if c.before != nil {
		out.Previous, out.PreviousIndex = c.before.Value, c.before.ModifyIndex
	}
	return out
}
