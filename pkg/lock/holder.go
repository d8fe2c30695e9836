package lock

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// The flags of the keys of locks and semaphores, as in the reference, and the last
// element of these keys.
const (
	lockFlags      uint64 = 0x2ddccbc058a50c18
	semaphoreFlags uint64 = 0xe0f69a2baa414de0

	lockName = ".lock"
)

func lockKey(prefix string) string { return prefix + "/" + lockName }

// Holder describes a holder to people. It is the value of the holder's key, which the
// reference's tool leaves empty.
type Holder struct {
	Host    string    `json:",omitempty"`
	PID     int       `json:",omitempty"`
	Command string    `json:",omitempty"`
	Since   time.Time `json:",omitzero"`
	Value   string    `json:",omitempty"` // what an election publishes
}

// encode sets Since by the holder's clock.
func (h Holder) encode() []byte {
	h.Since = time.Now().UTC().Truncate(time.Millisecond)
	data, err := json.Marshal(h)
	if err != nil {
		return nil // impossible before the year 10000
	}
	return data
}

// decodeHolder decodes a value; that of another tool gives the zero Holder.
func decodeHolder(value []byte) (h Holder) {
	if json.Unmarshal(value, &h) != nil {
		return Holder{}
	}
	return h
}

// refusal is why a transaction was rolled back. The API gives only a text.
type refusal struct{ text string }

func refusalOf(resp *api.TxnResponse) refusal {
	var all []string
	for _, e := range resp.Errors {
		all = append(all, e.What)
	}
	return refusal{strings.Join(all, "; ")}
}

func (r refusal) lockDelay() bool  { return strings.Contains(r.text, "due to lock delay") }
func (r refusal) badSession() bool { return strings.Contains(r.text, "invalid session") }

// kv is an operation on a key.
func kv(op api.TxnKVOp) *api.TxnOp { return &api.TxnOp{KV: &op} }

// unchanged is the condition that a key is as it was read, or is not there.
func unchanged(key string, pair *api.KVPair) *api.TxnOp {
	if pair == nil {
		return kv(api.TxnKVOp{Verb: "check-not-exists", Key: key})
	}
	return kv(api.TxnKVOp{Verb: "check-index", Key: key, Index: pair.ModifyIndex})
}

// indexOf is the index that a transaction gave a key, 0 if it was rolled back. The
// last result about the key is that of the write: conditions have one too, with the
// index from before.
func indexOf(resp *api.TxnResponse, key string) (index uint64) {
	for _, r := range resp.Results {
		if r.KV != nil && r.KV.Key == key {
			index = r.KV.ModifyIndex
		}
	}
	return index
}
