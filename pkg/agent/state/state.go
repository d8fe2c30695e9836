// Package state is the replicated state machine: a pure function of
// (state, raft index, command). It has no clock, no randomness, no goroutine and
// no I/O of its own; whoever proposes a command puts times and ids into it. The
// same log gives the same snapshot bytes on any machine, however it was cut into
// batches.
//
// A Store is changed by one goroutine only, the one that applies the log. What
// readers see is a Snapshot: an immutable view at one raft index whose queries
// are pure functions. Every query answers with a Meta: the index of the answer
// and what it was read from. The two belong together: the index of an answer is
// the raft index at which something it was read from last changed, so it moves
// exactly when one of its watches is touched, and never falls. What is gone
// leaves its index behind (marks.go).
//
// Results are shared between callers and never change: do not modify them.
package state

import (
	"github.com/hashicorp/go-memdb"
)

// An Entry is one entry of the raft log.
type Entry struct {
	Index uint64
	Data  []byte // made by Encode or Group
}

// A Store holds the newest state. All its methods belong to the one goroutine
// that applies the log; hand Snapshots to everybody else.
type Store struct {
	db   *memdb.MemDB
	root root

	unread *Unreadable // the first entry that could not be decoded; nothing is applied any more
}

// root is what a state holds beside its tables. It is copied, never shared.
type root struct {
	Index   uint64 // last applied raft index
	KVIndex uint64 // last change of any key
	// ClusterID is "" until a ClusterID command has been applied.
	ClusterID string
	// Floors are, per topic, the indexes below which tombstones were dropped.
	Floors [topicCount]uint64

	stats Stats
	dead  [topicCount]int // tombstones per topic
	// maxDead bounds dead; it is MaxTombstones but in tests.
	maxDead int

	// changes is no part of the state; see changeLog.
	changes changeLog
	// level is no part of the state: it is what reading the state has taken.
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
	return &Store{db: newDB(), root: root{maxDead: MaxTombstones, changes: changeLog{most: MaxChanges}}}
}

// ApplyBatch applies entries in the order given. A result is what its command
// answers (see the command types) or an error, and for a group the list of those;
// a command that the state refuses changes nothing and harms no other of the
// batch. touched names everything that changed, each once.
//
// An entry that this program cannot decode is not applied, and neither is any
// after it, in this batch or a later one: their results are an *Unreadable. The
// other replicas may well have applied it, so a store that went on would hold
// something else than they do.
func (s *Store) ApplyBatch(entries []Entry) (results []any, touched []Touch) {
	results = make([]any, len(entries))
	all := make(map[Touch]struct{}, len(entries))
	x := s.begin(all)
	var commands []decoded
	for i, e := range entries {
		if s.unread == nil {
			var err error
			if commands, err = decodeEntry(commands[:0], e.Data); err != nil {
				s.unread = &Unreadable{Index: e.Index, Err: err}
			}
		}
		if s.unread != nil {
			results[i] = s.unread
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

// applyOne applies one command at x's index. The batch goes on with the tx that it
// returns.
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

// applyTxn runs a transaction on its own, all or nothing. The commit before it
// has brought the store to its index already.
func (s *Store) applyTxn(cmd *Txn, now int64, all map[Touch]struct{}) any {
	mine := make(map[Touch]struct{})
	x := s.begin(mine)
	x.now = now
	resp := x.txn(cmd.Ops)
	if len(resp.Errors) > 0 {
		x.t.Abort()
		return resp
	}
	x.settleMarks()
	s.commit(x)
	for t := range mine {
		all[t] = struct{}{}
	}
	return resp
}

func (s *Store) begin(touched map[Touch]struct{}) *tx {
	return &tx{
		reader:  reader{t: s.db.Txn(true), root: s.root},
		marks:   make(map[Touch]bool),
		touched: touched,
	}
}

func (s *Store) commit(x *tx) {
	x.t.Commit()
	s.root = x.root
}

// Snapshot returns the state as it is now. It costs next to nothing, never
// changes, and may be used by any number of goroutines.
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
	// marks are the things the running command has touched (true) or whose
	// liveness alone it may have changed (false); settleMarks writes them.
	marks map[Touch]bool
	// touched is what the caller is told, over all commands.
	touched map[Touch]struct{}
}

// apply runs one command that cannot fail halfway: it checks everything before
// it writes anything.
func (x *tx) apply(cmd Command) any {
	var result any
	switch c := cmd.(type) {
	case *KV:
		result = x.kv(c)
	case *Register:
		if err := x.register(c); err != nil {
			return err
		}
	case *Deregister:
		x.deregister(c)
	case *SessionCreate:
		if err := x.sessionCreate(c); err != nil {
			return err
		}
	case *SessionDestroy:
		s := x.session(c.ID)
		if s != nil {
			x.endSession(s)
		}
		result = s != nil
	case *Reap:
		result = x.reap()
	case *ClusterID:
		if err := x.clusterID(c); err != nil {
			return err
		}
	case *EventFire:
		ev, err := x.eventFire(c)
		if err != nil {
			return err
		}
		result = ev
	case *EventAck:
		if err := x.eventAck(c); err != nil {
			return err
		}
	default:
		result = x.applyJob(c)
	}
	x.settleMarks()
	return result
}

func (x *tx) insert(table string, row any) {
	must(x.t.Insert(table, row))
}

func (x *tx) delete(table string, row any) {
	must(x.t.Delete(table, row))
}
