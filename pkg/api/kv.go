package api

import "time"

// MaxKVTTL limits the time to live of a key (?ttl).
const MaxKVTTL = 10 * 365 * 24 * time.Hour

// KVPair is one entry of the key/value store. An empty value reads back as
// null. Indexes are raft indexes.
type KVPair struct {
	LockIndex   uint64
	Key         string
	Flags       uint64
	Value       []byte
	Session     string `json:",omitempty"`
	CreateIndex uint64
	ModifyIndex uint64
}

// KVChanges is the answer of GET /v1/kv/PREFIX?changes-since=INDEX: the changes of the
// keys below a prefix, up to Index. With Resync it is all existing keys, as if they
// were new; the client drops all others.
type KVChanges struct {
	Index   uint64
	Resync  bool
	Changes []*KVChange
}

// What a KVChange did.
const (
	KVChangeSet    = "set"
	KVChangeDelete = "delete"
)

// KVChange is one write of a key, at one raft index. Previous is the value that was
// there before and PreviousIndex its ModifyIndex, 0 if the key is new.
type KVChange struct {
	Op            string
	Key           string
	Flags         uint64
	Value         []byte
	Index         uint64
	Previous      []byte
	PreviousIndex uint64
}
