package state

import (
	"slices"
	"sort"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// How many changes of keys a server remembers, and how many bytes of keys and
// values with them. A quarter more may be there until the oldest are dropped.
const (
	MaxChanges     = 1 << 14
	MaxChangeBytes = 16 << 20
)

// changeOverhead is about what a change costs beside its keys and values.
const changeOverhead = 128

// A changeLog remembers the last changes of keys, in order. It is what this server
// has seen, no part of the state: it begins anew when a snapshot is restored.
//
// Snapshots share the array behind entries: it is only ever appended to, and what
// is dropped is dropped by making another.
type changeLog struct {
	entries []change
	bytes   int
	// floor: every change after this index is there.
	floor uint64
	limit int // of entries; MaxChanges except in tests
}

// A change is one write of a key: old (nil if it is new) became now (nil if it is
// gone).
type change struct {
	index    uint64
	old, now *api.KVPair
}

func (c change) key() string {
	if c.now != nil {
		return c.now.Key
	}
	return c.old.Key
}

func (c change) size() int {
	n := changeOverhead + len(c.key())
	for _, e := range []*api.KVPair{c.old, c.now} {
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

// since gives the changes after an index, false if some of them are forgotten.
func (l *changeLog) since(index uint64) ([]change, bool) {
	at := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].index > index })
	return l.entries[at:], index >= l.floor
}

// KVChanges returns what has become of the keys that begin with prefix since an
// index, one entry for each write. Where that is not known any more, since 0, and since
// an index that this state has not reached (it was restored, or has begun anew), it
// returns all keys instead and says Resync.
func (sn *Snapshot) KVChanges(prefix string, since uint64) (*api.KVChanges, Meta) {
	out := &api.KVChanges{Index: max(1, sn.root.Index), Changes: []*api.KVChange{}}
	changes, known := sn.root.changes.since(since)
	ahead := since > out.Index
	if since == 0 || !known || ahead {
		entries, meta := sn.KVList(prefix)
		if since > 0 && !ahead && meta.Index <= since {
			return out, meta // what is forgotten was of other keys
		}
		out.Resync = true
		for _, e := range entries {
			out.Changes = append(out.Changes, change{index: e.ModifyIndex, now: e}.show())
		}
		return out, meta
	}
	for _, c := range changes {
		if strings.HasPrefix(c.key(), prefix) {
			out.Changes = append(out.Changes, c.show())
		}
	}
	meta := Meta{Index: 1, Watch: []Watch{{Topic: topicKV, Key: prefix, Prefix: true}}}
	if n := len(out.Changes); n > 0 {
		meta.Index = out.Changes[n-1].Index
	}
	return out, meta
}

func (c change) show() *api.KVChange {
	out := &api.KVChange{Op: api.KVChangeDelete, Key: c.key(), Index: c.index}
	if c.now != nil {
		out.Op, out.Flags, out.Value = api.KVChangeSet, c.now.Flags, c.now.Value
	}
	if c.old != nil {
		out.Previous, out.PreviousIndex = c.old.Value, c.old.ModifyIndex
	}
	return out
}
