package lock

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// List and Show read the values of locks only, however many other keys there are.
func TestListReadsLocksOnly(t *testing.T) {
	store := map[string]*api.KVPair{
		"app/big":      {Key: "app/big", Value: make([]byte, 1<<20)},
		"app/.lock":    {Key: "app/.lock", Flags: lockFlags, Session: "s1", ModifyIndex: 7},
		"svc/.lock":    {Key: "svc/.lock", Flags: semaphoreFlags, Value: []byte(`{"Limit":2,"Holders":{"s2":true,"gone":true}}`)},
		"svc/s2":       {Key: "svc/s2", Session: "s2", ModifyIndex: 9},
		"svc/not/ours": {Key: "svc/not/ours"},
	}
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var out any = []*api.Session{{ID: "s1"}, {ID: "s2"}}
		if key, ok := strings.CutPrefix(r.URL.Path, "/v1/kv/"); ok {
			var names []string
			for name := range store {
				names = append(names, name)
			}
			switch pair := store[key]; {
			case r.URL.Query().Has("recurse") || strings.HasSuffix(key, "big") || strings.HasSuffix(key, "ours"):
				t.Errorf("%s is read", r.URL)
			case r.URL.Query().Has("keys"):
				out = names
			case pair == nil:
				w.WriteHeader(http.StatusNotFound)
				return
			default:
				out = []*api.KVPair{pair}
			}
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	defer agent.Close()
	c, err := client.New(client.Config{Address: agent.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	all, err := List(t.Context(), c, "")
	if err != nil || len(all) != 2 || len(all[0].Holders) != 1 || len(all[1].Holders) != 1 || all[1].Slots != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	for _, name := range []string{"svc", "svc/.lock", "/svc/", "svc/s2"} {
		if s, err := Show(t.Context(), c, name); err != nil || s.Prefix != "svc" || len(s.Holders) != 1 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// A semaphore whose holders are gone, and for which somebody waits, has its slots.
func TestSlotsWithoutHolders(t *testing.T) {
	pairs := []*api.KVPair{{Key: "svc/.lock", Flags: semaphoreFlags, Value: []byte(`{"Limit":3,"Holders":{"gone":true}}`)}}
	waits := []*api.Session{{ID: "w", Name: SessionName("true", "svc")}}
	got := statuses(pairs, waits, "")
	if len(got) != 1 || got[0].Slots != 3 || len(got[0].Holders) != 0 || len(got[0].Waiters) != 1 {
		t.Errorf("%+v", got)
	}
}
