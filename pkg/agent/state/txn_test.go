package state

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// ops reads operations as the API's clients write them.
func ops(t testing.TB, text string) []*api.TxnOp {
	t.Helper()
	var out []*api.TxnOp
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// txnLab holds key "k" (value "v") at 10, and node "n" with service "w" of
// "web" and check "c" at 11. The next index is 20.
func txnLab(t testing.TB) *lab {
	l := newLab(t)
	l.put("k", "v")
	l.must(register("n", service("w", "web"), check("c", "w", "passing")))
	l.index = 19
	return l
}

func TestTxnOps(t *testing.T) {
	const (
		noResults = `[]`
		nodeN     = `{"Node":{"ID":"","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":null,"CreateIndex":11,"ModifyIndex":11}}`
		serviceW  = `{"Service":{"ID":"w","Service":"web","Tags":null,"Address":"","Meta":null,"Port":80,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{},"Connect":{},"PeerName":"","CreateIndex":11,"ModifyIndex":11}}`
	)
	kv := func(key, value string, create, modify string) string {
		return `{"KV":{"LockIndex":0,"Key":"` + key + `","Flags":0,"Value":` + value + `,"CreateIndex":` + create + `,"ModifyIndex":` + modify + `}}`
	}
	for _, tc := range []struct {
		name, op string
		want     string // Results, or the text of the only error
	}{
		{"set", `{"KV":{"Verb":"set","Key":"a","Value":"eA=="}}`, `[` + kv("a", "null", "20", "20") + `]`},
		{"set identical", `{"KV":{"Verb":"set","Key":"k","Value":"dg=="}}`, `[` + kv("k", "null", "10", "10") + `]`},
		{"cas", `{"KV":{"Verb":"cas","Key":"k","Index":10}}`, `[` + kv("k", "null", "10", "20") + `]`},
		{"cas stale", `{"KV":{"Verb":"cas","Key":"k","Index":9}}`, `failed to set key "k", index is stale`},
		{"cas 0", `{"KV":{"Verb":"cas","Key":"k"}}`, `failed to set key "k", index is stale`},
		{"lock", `{"KV":{"Verb":"lock","Key":"k","Session":"s"}}`, `invalid session "s"`},
		{"lock without session", `{"KV":{"Verb":"lock","Key":"k"}}`, `missing session`},
		{"unlock", `{"KV":{"Verb":"unlock","Key":"k","Session":"s"}}`, `failed to unlock key "k", lock isn't held, or is held by another session`},
		{"unlock without session", `{"KV":{"Verb":"unlock","Key":"k"}}`, `missing session`},
		{"get", `{"KV":{"Verb":"get","Key":"k"}}`, `[` + kv("k", `"dg=="`, "10", "10") + `]`},
		{"get nothing", `{"KV":{"Verb":"get","Key":"x"}}`, `key "x" doesn't exist`},
		{"get-or-empty", `{"KV":{"Verb":"get-or-empty","Key":"x"}}`, `[` + kv("x", "null", "0", "0") + `]`},
		{"get-tree", `{"KV":{"Verb":"get-tree","Key":"k"}}`, `[` + kv("k", `"dg=="`, "10", "10") + `]`},
		{"get-tree of nothing", `{"KV":{"Verb":"get-tree","Key":"x"}}`, noResults},
		{"check-index", `{"KV":{"Verb":"check-index","Key":"k","Index":10}}`, `[` + kv("k", "null", "10", "10") + `]`},
		{"check-index wrong", `{"KV":{"Verb":"check-index","Key":"k","Index":9}}`, `failed index check for key "k", current modify index 10 != 9`},
		{"check-index of nothing", `{"KV":{"Verb":"check-index","Key":"x"}}`, `failed to check index, key "x" doesn't exist`},
		{"check-session", `{"KV":{"Verb":"check-session","Key":"k","Session":"s"}}`, `failed session check for key "k", current session "" != "s"`},
		{"check-session of nothing", `{"KV":{"Verb":"check-session","Key":"x"}}`, `failed to check session, key "x" doesn't exist`},
		{"check-not-exists", `{"KV":{"Verb":"check-not-exists","Key":"x"}}`, noResults},
		{"check-not-exists of a key", `{"KV":{"Verb":"check-not-exists","Key":"k"}}`, `key "k" exists`},
		{"delete", `{"KV":{"Verb":"delete","Key":"k"}}`, noResults},
		{"delete nothing", `{"KV":{"Verb":"delete","Key":"x"}}`, noResults},
		{"delete-cas", `{"KV":{"Verb":"delete-cas","Key":"k","Index":10}}`, noResults},
		{"delete-cas stale", `{"KV":{"Verb":"delete-cas","Key":"k","Index":9}}`, `failed to delete key "k", index is stale`},
		{"delete-cas of nothing", `{"KV":{"Verb":"delete-cas","Key":"x","Index":9}}`, noResults},
		{"delete-tree", `{"KV":{"Verb":"delete-tree","Key":""}}`, noResults},
		{"unknown KV verb", `{"KV":{"Verb":"SET","Key":"k"}}`, `unknown KV verb "SET"`},
		{"no key", `{"KV":{"Verb":"set"}}`, `Must provide key`},
		{"nothing", `{}`, noResults},
		{"null", `null`, noResults},

		{"node get", `{"Node":{"Verb":"get","Node":{"Node":"N"}}}`, `[` + nodeN + `]`},
		{"node get nothing", `{"Node":{"Verb":"get","Node":{"Node":"x"}}}`, `node "x" doesn't exist`},
		{"node set", `{"Node":{"Verb":"set","Node":{"Node":"m"}}}`, `[{"Node":{"ID":"","Node":"m","Address":"","Datacenter":"","TaggedAddresses":null,"Meta":null,"CreateIndex":20,"ModifyIndex":20}}]`},
		{"node set, bad id", `{"Node":{"Verb":"set","Node":{"Node":"m","ID":"x"}}}`, `Bad node ID: uuid string is wrong length`},
		{"node cas", `{"Node":{"Verb":"cas","Node":{"Node":"n","Address":"10.0.0.1","Datacenter":"dc1","ModifyIndex":11}}}`, `[` + nodeN + `]`},
		{"node cas stale", `{"Node":{"Verb":"cas","Node":{"Node":"n","ModifyIndex":10}}}`, `failed to set node "n", index is stale`},
		{"node cas 0", `{"Node":{"Verb":"cas","Node":{"Node":"n"}}}`, `failed to set node "n", index is stale`},
		{"node delete", `{"Node":{"Verb":"delete","Node":{"Node":"n"}}}`, noResults},
		{"node delete nothing", `{"Node":{"Verb":"delete","Node":{"Node":"x"}}}`, noResults},
		{"node delete-cas", `{"Node":{"Verb":"delete-cas","Node":{"Node":"n","ModifyIndex":11}}}`, noResults},
		{"node delete-cas stale", `{"Node":{"Verb":"delete-cas","Node":{"Node":"n","ModifyIndex":10}}}`, `failed to delete node "n", index is stale`},
		{"node delete-cas of nothing", `{"Node":{"Verb":"delete-cas","Node":{"Node":"x"}}}`, `failed to delete node "x", index is stale`},
		{"node without name", `{"Node":{"Verb":"get","Node":{}}}`, `Must provide node`},
		{"unknown Node verb", `{"Node":{"Verb":"frob","Node":{"Node":"n"}}}`, `unknown Node verb "frob"`},

		{"service get", `{"Service":{"Verb":"get","Node":"n","Service":{"ID":"w"}}}`, `[` + serviceW + `]`},
		{"service get nothing", `{"Service":{"Verb":"get","Node":"n","Service":{"ID":"x"}}}`, `service "x" on node "n" doesn't exist`},
		{"service set identical", `{"Service":{"Verb":"set","Node":"n","Service":{"ID":"w","Service":"web","Port":80}}}`, `[` + serviceW + `]`},
		{"service set, no node", `{"Service":{"Verb":"set","Node":"x","Service":{"ID":"w","Service":"web"}}}`, `Missing node registration`},
		{"service set, no name", `{"Service":{"Verb":"set","Node":"n","Service":{"ID":"w"}}}`, `Must provide service name (Service.Service) when service ID is provided`},
		{"service delete, no name", `{"Service":{"Verb":"delete","Node":"n","Service":{"ID":"w"}}}`, `Must provide service name (Service.Service) when service ID is provided`},
		{"service cas stale", `{"Service":{"Verb":"cas","Node":"n","Service":{"ID":"w","Service":"web","ModifyIndex":1}}}`, `failed to set service "w" on node "n", index is stale`},
		{"service delete", `{"Service":{"Verb":"delete","Node":"n","Service":{"ID":"w","Service":"web"}}}`, noResults},
		{"service delete nothing", `{"Service":{"Verb":"delete","Node":"x","Service":{"ID":"w","Service":"web"}}}`, noResults},
		{"service delete-cas stale", `{"Service":{"Verb":"delete-cas","Node":"n","Service":{"ID":"w","Service":"web","ModifyIndex":1}}}`, `failed to delete service "w" on node "n", index is stale`},
		{"service without node", `{"Service":{"Verb":"get","Service":{"ID":"w"}}}`, `Must provide node`},
		{"unknown Service verb", `{"Service":{"Verb":"frob","Node":"n","Service":{"ID":"w","Service":"web"}}}`, `unknown Service verb "frob"`},

		{"check get nothing", `{"Check":{"Verb":"get","Check":{"Node":"n","CheckID":"x"}}}`, `check "x" on node "n" doesn't exist`},
		{"check set", `{"Check":{"Verb":"set","Check":{"Node":"N","Name":"d"}}}`, `[{"Check":{"Node":"n","CheckID":"d","Name":"d","Status":"critical","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":20,"ModifyIndex":20}}]`},
		{"check set, no node", `{"Check":{"Verb":"set","Check":{"Node":"x","Name":"d"}}}`, `Missing node registration`},
		{"check set, no service", `{"Check":{"Verb":"set","Check":{"Node":"n","Name":"d","ServiceID":"x"}}}`, `Unknown service ID 'x' for check ID 'd'`},
		{"check cas stale", `{"Check":{"Verb":"cas","Check":{"Node":"n","CheckID":"c","ModifyIndex":3}}}`, `failed to set check "c" on node "n", index is stale`},
		{"check delete", `{"Check":{"Verb":"delete","Check":{"Node":"n","CheckID":"c"}}}`, noResults},
		{"check delete nothing", `{"Check":{"Verb":"delete","Check":{"Node":"n","CheckID":"x"}}}`, noResults},
		{"check delete-cas stale", `{"Check":{"Verb":"delete-cas","Check":{"Node":"n","CheckID":"c","ModifyIndex":3}}}`, `failed to delete check "c" on node "n", index is stale`},
		{"check without id", `{"Check":{"Verb":"get","Check":{"Node":"n"}}}`, `Must provide check name or check ID`},
		{"unknown Check verb", `{"Check":{"Verb":"frob","Check":{"Node":"n","CheckID":"c"}}}`, `unknown Check verb "frob"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := `{"Results":` + tc.want + `,"Errors":null}`
			if !strings.HasPrefix(tc.want, "[") {
				what, _ := json.Marshal(tc.want)
				want = `{"Results":null,"Errors":[{"OpIndex":0,"What":` + string(what) + `}]}`
			}
			l := txnLab(t)
			before := l.sn
			result, touched := l.do(&Txn{Ops: ops(t, "["+tc.op+"]")})
			if got := asJSON(t, result); got != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
			if strings.HasPrefix(tc.want, "[") == false && len(touched) > 0 {
				t.Errorf("a failed transaction touches %v", touched)
			}
			if ops := ops(t, "["+tc.op+"]"); TxnReadOnly(ops) {
				if got := asJSON(t, before.ReadTxn(ops)); got != want || len(touched) > 0 {
					t.Errorf("read:\ngot  %s\nwant %s", got, want)
				}
			} else if got := before.ReadTxn(ops); got.Errors == nil {
				t.Errorf("a snapshot has written: %s", asJSON(t, got))
			}
		})
	}
}

func TestATxnSeesItselfAndIsAllOrNothing(t *testing.T) {
	const all = `[
		{"KV":{"Verb":"set","Key":"a","Value":"eA=="}},
		{"KV":{"Verb":"get","Key":"a"}},
		{"Node":{"Verb":"set","Node":{"Node":"m"}}},
		{"Service":{"Verb":"set","Node":"m","Service":{"Service":"db"}}},
		{"Check":{"Verb":"set","Check":{"Node":"m","Name":"c","ServiceID":"db"}}},
		{"KV":{"Verb":"delete","Key":"k"}}`
	l := txnLab(t)
	l.must(&Txn{Ops: ops(t, all+`]`)})
	if got := l.sn.Stats(); got != (Stats{Nodes: 2, Services: 2, Instances: 2, Checks: 2, Keys: 1}) {
		t.Errorf("after: %+v", got)
	}

	l = txnLab(t)
	before := l.bytes()
	result, touched := l.do(&Txn{Ops: ops(t, all+`,
		{"KV":{"Verb":"get","Key":"k"}},
		{"Node":{"Verb":"cas","Node":{"Node":"m"}}}]`)})
	want := `{"Results":null,"Errors":[{"OpIndex":6,"What":"key \"k\" doesn't exist"},{"OpIndex":7,"What":"failed to set node \"m\", index is stale"}]}`
	if got := asJSON(t, result); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
	if l.sn.Index() != 20 || len(touched) != 0 {
		t.Errorf("index is %d, touched %v", l.sn.Index(), touched)
	}
	l.s.root.Index = 11
	if string(before) != string(l.bytes()) {
		t.Error("a failed transaction has left something")
	}

	// What is missing is reported before anything is tried.
	result, _ = l.do(&Txn{Ops: ops(t, `[{"KV":{"Verb":"get","Key":"none"}},{"KV":{"Verb":"set"}},{"Node":{"Verb":"set","Node":{}}}]`)})
	want = `{"Results":null,"Errors":[{"OpIndex":1,"What":"Must provide key"},{"OpIndex":2,"What":"Must provide node"}]}`
	if got := asJSON(t, result); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

func TestATxnAmongOthersOfItsBatch(t *testing.T) {
	l := txnLab(t)
	results, touched := l.s.ApplyBatch([]Entry{
		l.entry(&KV{Op: KVSet, Entry: api.KVPair{Key: "a"}}, 20),
		l.entry(&Txn{Ops: ops(t, `[{"KV":{"Verb":"set","Key":"lost"}},{"KV":{"Verb":"get","Key":"none"}}]`)}, 21),
		l.entry(&Txn{Ops: ops(t, `[{"KV":{"Verb":"get","Key":"a"}},{"KV":{"Verb":"set","Key":"b"}}]`)}, 22),
		l.entry(&KV{Op: KVCAS, Entry: api.KVPair{Key: "b", Flags: 1}, Index: 22}, 23),
	})
	if results[0] != true || results[3] != true || results[1].(*api.TxnResponse).Errors == nil || results[2].(*api.TxnResponse).Errors != nil {
		t.Errorf("results are %s", asJSON(t, results))
	}
	if len(touched) != 2 {
		t.Errorf("touched %v, want a and b", touched)
	}
	sn := l.s.Snapshot()
	if e, m := sn.KVGet("lost"); e != nil || m.Index != 1 {
		t.Errorf("lost is %v at %d", e, m.Index)
	}
	if _, m := sn.KVGet("a"); m.Index != 20 {
		t.Errorf("a is at %d", m.Index)
	}
}
