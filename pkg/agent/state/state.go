// Package state is the replicated state machine: a pure function of
// (state, raft index, command). It has no clock, no randomness, no goroutine and
// no I/O; the proposer of a command puts times and ids into it. The same log gives
// the same snapshot bytes on any machine, however it is cut into batches.
//
// A Store is changed by one goroutine, the one that applies the log. Readers use a
// Snapshot: an immutable view at one raft index, whose queries are pure functions.
// Every query returns a Meta: the index of the answer and what it was read from.
// That index is the raft index at which something that the answer was read from
// last changed. So it changes exactly when one of the watches is touched, and it
// never falls: a thing that is removed leaves a tombstone (changeindex.go).
//
// Results are shared between callers: do not modify them.
package state

import (
	"github.com/hashicorp/go-memdb"

	"github.com/muster-dev/muster/pkg/api"
)

// An Entry is one entry of the raft log.
type Entry struct {
	Index uint64
	Data  []byte // made by Encode or Group
}

// A Store holds the newest state. All its methods belong to the goroutine that
// applies the log; all others use Snapshots.
type Store struct {
	db   *memdb.MemDB
	root root

	unreadable *Unreadable // the first entry that could not be decoded; nothing is applied after it
}

// root is the part of a state outside its tables. It is copied, never shared.
type root struct {
	Index   uint64 // last applied raft index
	KVIndex uint64 // last change of any key
	// ClusterID is "" until a ClusterID command has been applied.
	ClusterID string
	// Floors are, per topic, the indexes below which tombstones were dropped.
	Floors [topicCount]uint64

	stats      Stats
	tombstones [topicCount]int // per topic
	// maxTombstones limits tombstones; it is MaxTombstones except in tests.
	maxTombstones int

	// changes is no part of the state; see changeLog.
	changes changeLog
	// level is no part of the state: it is the feature level needed to read it.
	level int
}

// Stats counts what a state holds.
type Stats struct {
	Nodes     int
	Services  int // distinct names
	Instances int
	Checks    int
	Keys      int
	Sessions  int

	Events     int // durable ones
	EventBytes int // their names and payloads
}

// New returns an empty store.
func New() *Store {
	return &Store{db: newDB(), root: root{maxTombstones: MaxTombstones, changes: changeLog{limit: MaxChanges}}}
}

// ApplyBatch applies entries in the order given. A result is that of its command
// (see the command types) or an error, and for a group the list of those. A command
// that fails changes nothing and does not affect the others. touched names
// everything that changed, each once.
//
// An entry that this program cannot decode is not applied, and neither is any after
// it, in this batch or a later one: their results are an *Unreadable. Other replicas
// may have applied it, so a store that went on would differ from theirs.
func (s *Store) ApplyBatch(entries []Entry) (results []any, touched []Touch) {
	results = make([]any, len(entries))
	all := make(map[Touch]struct{}, len(entries))
	x := s.begin(all)
	var commands []decoded
	for i, e := range entries {
		if s.unreadable == nil {
			var err error
			if commands, err = decodeEntry(commands[:0], e.Data); err != nil {
				s.unreadable = &Unreadable{Index: e.Index, Err: err}
			}
		}
		if s.unreadable != nil {
			results[i] = s.unreadable
			continue
		}
		x.Index = e.Index
		x.level = max(x.level, entryLevel(e.Data, commands))
		if !isGroup(e.Data) {
			x, results[i] = s.applyOne(x, commands[0])
			continue
		}
		each := make([]any, len(commands))
		for j, c := range commands {
			x, each[j] = s.applyOne(x, c)
		}
		results[i] = each
	}
	s.commit(x)
	touched = make([]Touch, 0, len(all))
	for t := range all {
		touched = append(touched, t)
	}
	return results, touched
}

// applyOne applies one command at x's index. The batch continues with the tx that
// it returns.
func (s *Store) applyOne(x *tx, c decoded) (next *tx, result any) {
	x.now = c.now
	if txn, ok := c.cmd.(*Txn); ok {
		// memdb has no savepoints, and a transaction must be able to fail.
		s.commit(x)
		result = s.applyTxn(txn, c.now, x.touched)
		return s.begin(x.touched), result
	}
	return x, x.apply(c.cmd)
}

// applyTxn runs a transaction in a tx of its own, all or nothing. The commit before
// it has brought the store to its index already.
func (s *Store) applyTxn(cmd *Txn, now int64, all map[Touch]struct{}) any {
	touched := make(map[Touch]struct{})
	x := s.begin(touched)
	x.now = now
	resp := cmd.apply(x).(*api.TxnResponse)
	if len(resp.Errors) > 0 {
		x.t.Abort()
		return resp
	}
	x.updateIndexes()
	s.commit(x)
	for t := range touched {
		all[t] = struct{}{}
	}
	return resp
}

func (s *Store) begin(touched map[Touch]struct{}) *tx {
	return &tx{
		reader:  reader{t: s.db.Txn(true), root: s.root},
		pending: make(map[Touch]bool),
		touched: touched,
	}
}

func (s *Store) commit(x *tx) {
	x.t.Commit()
	s.root = x.root
}

// Snapshot returns the state as it is now. It is cheap, never changes, and is safe
// for concurrent use.
func (s *Store) Snapshot() *Snapshot {
	return &Snapshot{db: s.db.Snapshot(), root: s.root}
}

// A Snapshot is the state at one raft index.
type Snapshot struct {
	db   *memdb.MemDB
	root root
}

// Index is the raft index of the last entry that was applied.
func (sn *Snapshot) Index() uint64 { return sn.root.Index }

// Level is the feature level in use: the lowest at which a program can read every
// entry that was applied, and the snapshot before them; at least 1.
func (sn *Snapshot) Level() int { return max(sn.root.level, 1) }

// Stats counts what the snapshot holds.
func (sn *Snapshot) Stats() Stats { return sn.root.stats }

func (sn *Snapshot) read() reader {
	return reader{t: sn.db.Txn(false), root: sn.root}
}

// reader is the read side that queries and commands share.
type reader struct {
	root
	t *memdb.Txn
}

// tx is the write side: one memdb transaction, which several commands may share.
type tx struct {
	reader
	now int64 // when the running command was proposed, in unix nanoseconds
	// pending are the things that the running command has touched (true), or may
	// only have created or removed (false); updateIndexes empties it.
	pending map[Touch]bool
	// touched is what all commands have touched.
	touched map[Touch]struct{}
}

// apply runs one command and returns its result. A command checks everything before
// it writes anything, so that it cannot fail halfway.
func (x *tx) apply(cmd Command) any {
	result := cmd.apply(x)
	x.updateIndexes()
	return result
}

func (x *tx) insert(table string, row any) {
	must(x.t.Insert(table, row))
}

func (x *tx) delete(table string, row any) {
	must(x.t.Delete(table, row))
}
