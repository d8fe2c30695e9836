package api

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
