package client

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// A key that agents would clean is read as the cleaned key, and never written.
func TestKeysThatArePathsToOthers(t *testing.T) {
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.Path)
		_, _ = w.Write([]byte("null"))
	}))
	defer s.Close()
	c, err := New(Config{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"app//port", "./app/port", "app/x/../port"} {
		got = nil
		if _, _, err := c.KVGet(t.Context(), key, nil); err != nil || len(got) != 1 || got[0] != "GET /v1/kv/app/port" {
			t.Errorf("get %s: %q, %v", key, got, err)
		}
		got = nil
		_, put := c.KVPut(t.Context(), key, nil, KVWrite{}, nil)
		_, gone := c.KVDelete(t.Context(), key, KVWrite{Recurse: true}, nil)
		_, txn := c.Txn(t.Context(), []*api.TxnOp{{KV: &api.TxnKVOp{Verb: "set", Key: key}}}, nil)
		for _, err := range []error{put, gone, txn} {
			if err == nil || !strings.Contains(err.Error(), `"app/port"`) {
				t.Errorf("a write of %s: %v", key, err)
			}
		}
		if len(got) > 0 {
			t.Errorf("%s was sent: %q", key, got)
		}
	}
	for _, write := range []func() error{
		func() error { _, err := c.KVPut(t.Context(), "/app/port", nil, KVWrite{}, nil); return err },
		func() error { _, err := c.KVDelete(t.Context(), "app/", KVWrite{Recurse: true}, nil); return err },
		func() error { // what another program has written there can be removed
			_, err := c.Txn(t.Context(), []*api.TxnOp{{KV: &api.TxnKVOp{Verb: "delete", Key: "app//port"}}}, nil)
			return err
		},
	} {
		if err := write(); err != nil {
			t.Error(err)
		}
	}
}
