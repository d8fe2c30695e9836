package handlers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// The kinds of changes.
const (
	opAdd    = "add"
	opModify = "modify"
	opDelete = "delete"
)

// change is one line of the input of a handler with Changes. Old is null for an
// addition, New for a deletion.
type change struct {
	Op    string          `json:"op"`
	Key   string          `json:"key"` // key; service; node; NODE/SERVICE-ID; NODE/CHECK-ID; event id
	Old   json.RawMessage `json:"old"`
	New   json.RawMessage `json:"new"`
	Index uint64          `json:"index"`
}

// changes are the differences of two states: present items in their order, then deleted
// ones. They are computed here, so they are the same with muster and Consul.
func changes(old []item, salt string, now update) []change {
	before := make(map[string]item, len(old))
	for _, it := range old {
		before[it.Key] = it
	}
	present := make(map[string]bool, len(now.items))
	var out []change
	for _, it := range now.items {
		present[it.Key] = true
		prev, known := before[it.Key]
		switch {
		case !known:
			out = append(out, change{opAdd, it.Key, nil, it.Data, now.index})
		case !prev.same(salt, it.Data):
			out = append(out, change{opModify, it.Key, prev.Data, it.Data, now.index})
		}
	}
	for _, it := range old {
		if !present[it.Key] {
			out = append(out, change{opDelete, it.Key, it.Data, nil, now.index})
		}
	}
	return out
}

// same reports whether an item had that data, by its hash where the value was not kept.
func (it item) same(salt string, data json.RawMessage) bool {
	if it.Data == nil {
		return it.Hash == hashOfItem(salt, data)
	}
	return bytes.Equal(it.Data, data)
}

// hashOfItem is salted, so that hashes of two files cannot be compared.
func hashOfItem(salt string, data json.RawMessage) string {
	sum := sha256.Sum256(append([]byte(salt), data...))
	return hex.EncodeToString(sum[:])
}

// lines is one JSON line for each change.
func lines(all []change) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, c := range all {
		if err := enc.Encode(c); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
