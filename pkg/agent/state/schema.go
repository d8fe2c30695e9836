package state

import (
	"encoding/binary"
	"errors"
	"iter"
	"strings"

	"github.com/hashicorp/go-memdb"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	tableKV       = "kv"       // *api.KVPair
	tableNodes    = "nodes"    // *nodeRow
	tableServices = "services" // *instance
	tableTags     = "tags"     // *tagCount, from the instances: in no snapshot
	tableChecks   = "checks"   // *api.HealthCheck
	tableIndexes  = "indexes"  // *changeIndex
	tableSessions = "sessions" // *api.Session
	tableLocks    = "locks"    // *lock
	tableDelays   = "delays"   // *lockDelay
	tableExpiries = "expiries" // *expiry

	tableEvents    = "events"    // *event
	tableEventAcks = "eventacks" // *eventAck
	tableJobs      = "jobs"      // *job

	tableJobTargets = "jobtargets" // *jobTarget
)

// newDB makes the tables. Every index takes one []byte as its argument, made by the
// key functions below. A non-unique index orders rows of equal value by their id.
func newDB() *memdb.MemDB {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableKV: table(tableKV,
			unique("id", func(e *api.KVPair) []byte { return []byte(e.Key) })),
		tableNodes: table(tableNodes,
			unique("id", func(n *nodeRow) []byte { return nodeKey(n.Node.Node) }),
			nonUnique("uuid", func(n *nodeRow) []byte { return optional(strings.ToLower(n.Node.ID)) }),
			nonUnique("address", func(n *nodeRow) []byte { return optional(canonicalIP(n.Node.Address)) })),
		tableServices: table(tableServices,
			unique("id", func(i *instance) []byte { return keyOf(strings.ToLower(i.Node), i.Service.ID) }),
			nonUnique("name", func(i *instance) []byte { return nodeKey(i.Service.Service) }),
			nonUnique("address", func(i *instance) []byte { return optional(canonicalIP(i.Service.Address)) })),
		tableTags: table(tableTags, unique("id", tagCountKey)),
		tableChecks: table(tableChecks,
			unique("id", func(c *api.HealthCheck) []byte { return keyOf(strings.ToLower(c.Node), c.CheckID) }),
			nonUnique("service", serviceOfCheck),
			nonUnique("status", func(c *api.HealthCheck) []byte { return nodeKey(c.Status) })),
		tableIndexes: table(tableIndexes,
			unique("id", func(m *changeIndex) []byte { return changeKey(m.Topic, m.Key) }),
			nonUnique("dead", tombstoneKey)),
		tableSessions: table(tableSessions,
			unique("id", func(s *api.Session) []byte { return keyOf(s.ID) }),
			nonUnique("node", func(s *api.Session) []byte { return nodeKey(s.Node) }),
			multiKey("check", checksOfSession)),
		tableLocks: table(tableLocks,
			unique("id", func(l *lock) []byte { return []byte(l.Key) }),
			nonUnique("session", func(l *lock) []byte { return keyOf(l.Session) })),
		tableDelays: table(tableDelays,
			unique("id", func(d *lockDelay) []byte { return []byte(d.Key) }),
			nonUnique("until", func(d *lockDelay) []byte { return atKey(d.Until) })),
		tableExpiries: table(tableExpiries,
			unique("id", func(e *expiry) []byte { return []byte(e.Key) }),
			nonUnique("at", func(e *expiry) []byte { return atKey(e.At) })),
		tableEvents: table(tableEvents,
			unique("id", func(e *event) []byte { return eventKey(e.Index) }),
			nonUnique("uuid", func(e *event) []byte { return keyOf(e.ID) }),
			nonUnique("name", func(e *event) []byte { return keyOf(e.Name) }),
			nonUnique("at", func(e *event) []byte { return atKey(e.Expires) })),
		tableEventAcks: table(tableEventAcks,
			unique("id", func(a *eventAck) []byte { return keyOf(a.Event, strings.ToLower(a.Node)) })),
		tableJobs: table(tableJobs,
			unique("id", func(j *job) []byte { return keyOf(j.ID) })),
		tableJobTargets: table(tableJobTargets,
			unique("id", func(t *jobTarget) []byte { return jobTargetKey(t.Job, t.Node) }),
			nonUnique("node", callKey)),
	}})
	if err != nil {
		panic(err) // the literal above is invalid
	}
	return db
}

func serviceOfCheck(c *api.HealthCheck) []byte {
	if c.ServiceID == "" {
		return nil
	}
	return nodeKey(c.ServiceName)
}

// keyOf joins parts so that no two lists of parts give the same key, a key of
// fewer parts is a prefix of those that continue it and of no others, and keys
// sort as their parts do.
func keyOf(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += len(p) + 2
	}
	key := make([]byte, 0, n+8)
	for _, p := range parts {
		for strings.IndexByte(p, 0) >= 0 {
			i := strings.IndexByte(p, 0)
			key = append(append(key, p[:i]...), 0, 0xff)
			p = p[i+1:]
		}
		key = append(append(key, p...), 0, 1)
	}
	return key
}

// nodeKey is the key of a name that is matched without regard to case: of a
// node, a service, a status.
func nodeKey(name string) []byte { return keyOf(strings.ToLower(name)) }

func optional(value string) []byte {
	if value == "" {
		return nil
	}
	return keyOf(value)
}

func changeKey(topic Topic, key string) []byte {
	return append([]byte{byte(topic)}, key...)
}

// tombstoneKey orders the tombstones of a topic by age.
func tombstoneKey(m *changeIndex) []byte {
	if !m.Tombstone {
		return nil
	}
	return binary.BigEndian.AppendUint64([]byte{byte(m.Topic)}, m.Index)
}

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: make(map[string]*memdb.IndexSchema)}
	for _, ix := range indexes {
		t.Indexes[ix.Name] = ix
	}
	return t
}

func unique[T any](name string, key func(*T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: true, Indexer: indexer[T]{key}}
}

func nonUnique[T any](name string, key func(*T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: indexer[T]{key}}
}

// multiKey is for rows that have several keys, or none.
func multiKey[T any](name string, keys func(*T) [][]byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: multiIndexer[T]{keys: keys}}
}

type multiIndexer[T any] struct {
	indexer[T] // for the arguments
	keys       func(*T) [][]byte
}

func (ix multiIndexer[T]) FromObject(row any) (bool, [][]byte, error) {
	keys := ix.keys(row.(*T))
	return len(keys) > 0, keys, nil
}

// indexer makes keys with a function; a nil key keeps the row out of the index.
// memdb appends to the keys, so each call must return a new slice.
type indexer[T any] struct{ key func(*T) []byte }

func (ix indexer[T]) FromObject(row any) (bool, []byte, error) {
	key := ix.key(row.(*T))
	return key != nil, key, nil
}

func (ix indexer[T]) FromArgs(args ...any) ([]byte, error) {
	key, ok := args[0].([]byte)
	if !ok {
		return nil, errors.New("an index takes one []byte")
	}
	return key, nil
}

func (ix indexer[T]) PrefixFromArgs(args ...any) ([]byte, error) { return ix.FromArgs(args...) }

// must panics on an error that only a mistake in this package can cause; no command
// and no data can.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// first returns the row with this key, the first of several, or nil.
func first[T any](r reader, table, index string, key []byte) *T {
	raw, err := r.t.First(table, index, key)
	must(err)
	if raw == nil {
		return nil
	}
	return raw.(*T)
}

// scan yields the rows of a key in order or, with "_prefix" after the index's name,
// of all keys that begin with it. Rows may be changed meanwhile: it yields those
// that existed when it began.
func scan[T any](r reader, table, index string, key []byte) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		it, err := r.t.Get(table, index, key)
		must(err)
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if !yield(raw.(*T)) {
				return
			}
		}
	}
}
