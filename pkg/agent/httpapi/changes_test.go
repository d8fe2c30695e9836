package httpapi

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

func (r *rig) changes(query string) *api.KVChanges {
	r.t.Helper()
	return r.changesIn(r.must("GET /v1/kv/p/?"+query, ""))
}

func (r *rig) changesIn(body string) *api.KVChanges {
	r.t.Helper()
	var out api.KVChanges
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		r.t.Fatal(err)
	}
	return &out
}

func TestChangesSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.must("PUT /v1/kv/p/a", "1")
		r.must("PUT /v1/kv/q", "1")
		first := r.changes("changes-since=0")
		if first.Index != 2 || !first.Resync || len(first.Changes) != 1 || first.Changes[0].Key != "p/a" {
			t.Fatalf("at first: %+v", first)
		}
		asked := r.block(t.Context(), "GET /v1/kv/p/?changes-since=2&wait=1m")
		r.must("PUT /v1/kv/q", "2")
		if w := asked.answered(); w != nil {
			t.Fatalf("woken by another key: %s", w.Body)
		}
		r.must("DELETE /v1/kv/p/a", "")
		w := asked.answered()
		if w == nil {
			t.Fatal("not woken")
		}
		c := r.changesIn(w.Body.String())
		if c.Index != 4 || c.Resync || len(c.Changes) != 1 || c.Changes[0].Op != api.KVChangeDelete || string(c.Changes[0].Previous) != "1" {
			t.Errorf("after the delete: %s", w.Body)
		}
		if late := r.changes("changes-since=2"); len(late.Changes) != 1 {
			t.Errorf("who comes late: %+v", late)
		}
		// Where nothing changes the index moves on all the same.
		asked = r.block(t.Context(), "GET /v1/kv/p/?changes-since=4&wait=1m")
		r.must("PUT /v1/kv/q", "3")
		time.Sleep(2 * time.Minute)
		if quiet := r.changesIn(asked.answered().Body.String()); quiet.Resync || len(quiet.Changes) != 0 || quiet.Index != 5 {
			t.Errorf("nothing changed: %+v", quiet)
		}
		if empty := r.changes("changes-since"); !empty.Resync || empty.Changes == nil {
			t.Errorf("without an index: %+v", empty)
		}
		r.check(t, []want{{"GET /v1/kv/p/?changes-since=x", "", 400, "Invalid changes-since"}})
	})
}
