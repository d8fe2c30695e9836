package handlers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// What a change does.
const (
	opAdd    = "add"
	opModify = "modify"
	opDelete = "delete"
)

// change is one line of what a handler gets that asked for changes. Old is null
// for what was added, New for what was deleted.
type change struct {
	Op    string          `json:"op"`
	Key   string          `json:"key"` // key; service; node; NODE/SERVICE-ID; NODE/CHECK-ID; event id
	Old   json.RawMessage `json:"old"`
	New   json.RawMessage `json:"new"`
	Index uint64          `json:"index"`
}

// changes are what leads from one view to the next: what is there now in its
// order, then what is not there any more. They need nothing of the server, so
// they are the same against any.
func changes(old []item, salt string, now view) []change {
	before := make(map[string]item, len(old))
	for _, it := range old {
		before[it.Key] = it
	}
	there := make(map[string]bool, len(now.items))
	var out []change
	for _, it := range now.items {
		there[it.Key] = true
		was, known := before[it.Key]
		switch {
		case !known:
			out = append(out, change{opAdd, it.Key, nil, it.Data, now.index})
		case !was.same(salt, it.Data):
			out = append(out, change{opModify, it.Key, was.Data, it.Data, now.index})
		}
	}
	for _, it := range old {
		if !there[it.Key] {
			out = append(out, change{opDelete, it.Key, it.Data, nil, now.index})
		}
	}
	return out
}

// same says whether an item was of that data. Of one whose value was not kept the hash
// tells.
func (it item) same(salt string, data json.RawMessage) bool {
	if it.Data == nil {
		return it.Hash == hashOfItem(salt, data)
	}
	return bytes.Equal(it.Data, data)
}

// hashOfItem cannot be compared between files, for which salts differ.
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
