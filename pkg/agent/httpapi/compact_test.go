package httpapi

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// What is encoded by hand has the bytes that json.Marshal makes.
func FuzzCompact(f *testing.F) {
	f.Add("a/b", []byte("v"), "", uint64(0), uint64(1), uint64(2))
	f.Add(`"<\x00\u00e9&>`, []byte{}, "s", uint64(1), uint64(1<<63), uint64(1<<64-1))
	f.Add("k", []byte(nil), "8d5b-\x7f", uint64(9), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, key string, value []byte, session string, flags, lock, index uint64) {
		pair := &api.KVPair{Key: key, Value: value, Session: session, Flags: flags, LockIndex: lock, CreateIndex: index, ModifyIndex: index + 1}
		for _, v := range []any{[]*api.KVPair{pair}, []*api.KVPair{nil}, []*api.KVPair{}, flags == 0, key} {
			want, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := encodeCompact(v); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		}
	})
}
