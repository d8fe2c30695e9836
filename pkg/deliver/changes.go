package deliver

import (
	"bytes"
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
func changes(old []item, now view) []change {
	before := make(map[string]json.RawMessage, len(old))
	for _, it := range old {
		before[it.Key] = it.Data
	}
	there := make(map[string]bool, len(now.items))
	var out []change
	for _, it := range now.items {
		there[it.Key] = true
		was, known := before[it.Key]
		switch {
		case !known:
			out = append(out, change{opAdd, it.Key, nil, it.Data, now.index})
		case !bytes.Equal(was, it.Data):
			out = append(out, change{opModify, it.Key, was, it.Data, now.index})
		}
	}
	for _, it := range old {
		if !there[it.Key] {
			out = append(out, change{opDelete, it.Key, it.Data, nil, now.index})
		}
	}
	return out
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
