package httpapi

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

func TestKV(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET /v1/kv/", "", 400, "Missing key name"},
		{"PUT /v1/kv/", "x", 400, "Missing key name"},
		{"DELETE /v1/kv/", "", 400, "Missing key name"},
		{"GET /v1/kv/a", "", 404, ""},
		{"GET /v1/kv/?recurse", "", 404, ""},
		{"GET /v1/kv/?keys", "", 200, "[]"},
		{"GET /v1/kv/a?keys", "", 404, ""},
		{"PUT /v1/kv/a/b?flags=18446744073709551615", "<v>", 200, "true"}, // index 1
		{"GET /v1/kv/a/b", "", 200,
			`[{"LockIndex":0,"Key":"a/b","Flags":18446744073709551615,"Value":"PHY+","CreateIndex":1,"ModifyIndex":1}]`},
		{"GET /v1/kv/a/b?raw=false", "", 200, "<v>"},
		{"PUT /v1/kv/a/", "", 200, "true"},
		{"GET /v1/kv/a/", "", 200, `~"Value":null`},
		{"GET /v1/kv/a/?raw", "", 200, ""},
		{"PUT /v1/kv/a/c/d", "v", 200, "true"},
		{"GET /v1/kv/a?keys", "", 200, `["a/","a/b","a/c/d"]`},
		{"GET /v1/kv/a/?keys&separator=/", "", 200, `["a/","a/b","a/c/"]`},
		{"GET /v1/kv/a/?keys&seperator=/&recurse&raw", "", 200, `["a/","a/b","a/c/"]`},
		{"GET /v1/kv/a/?keys&seperator=x&separator=/", "", 200, `["a/","a/b","a/c/"]`},
		{"GET /v1/kv/a/c?recurse&raw", "", 200, `~"Key":"a/c/d"`},
		{"PUT /v1/kv/x?cas=0", "1", 200, "true"}, // index 4
		{"PUT /v1/kv/x?cas=0", "2", 200, "false"},
		{"PUT /v1/kv/x?cas=4", "2", 200, "true"}, // index 6
		{"DELETE /v1/kv/x?cas=4", "", 200, "false"},
		{"DELETE /v1/kv/x?cas=6", "", 200, "true"},
		{"DELETE /v1/kv/none", "", 200, "true"},
		{"DELETE /v1/kv/a?recurse", "", 200, "true"},
		{"GET /v1/kv/?recurse", "", 404, ""},
	})
}

func TestKVErrors(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"PUT /v1/kv/a?cas=1&acquire=x", "", 400, "Conflicting flags: cas=1&acquire=x"},
		{"PUT /v1/kv/a?release=y&acquire=x", "", 400, "Conflicting flags: release=y&acquire=x"},
		{"DELETE /v1/kv/a?cas=1&recurse", "", 400, "Conflicting flags: cas=1&recurse"},
		{"PUT /v1/kv/a?cas=", "", 500, `strconv.ParseUint: parsing "": invalid syntax`},
		{"PUT /v1/kv/a?flags=x", "", 500, `strconv.ParseUint: parsing "x": invalid syntax`},
		{"PUT /v1/kv/a?flags=18446744073709551616", "", 500, `strconv.ParseUint: parsing "18446744073709551616": value out of range`},
		{"DELETE /v1/kv/a?cas=x", "", 500, `strconv.ParseUint: parsing "x": invalid syntax`},
		{"PUT /v1/kv/a?acquire=", "", 500, "raft apply failed: missing session"},
		{"PUT /v1/kv/a?release", "", 500, "raft apply failed: missing session"},
		{"PUT /v1/kv/a?acquire=s1", "", 500, `raft apply failed: invalid session "s1"`},
		{"GET /v1/kv/a", "", 404, ""},
	})
	const unknown = api.TextUnknownWrite + ": leadership lost"
	r.cluster.set(func(c *fakeCluster) {
		c.proposeErr = []error{fmt.Errorf("%w: leadership lost", api.ErrUnknownWrite), errGone}
	})
	r.check(t, []want{
		{"PUT /v1/kv/a", "v", 500, unknown},
		{"PUT /v1/kv/a", "v", 500, "raft apply failed: gone"},
	})
}

func TestKVHeaders(t *testing.T) {
	r := newRig(t)
	w := r.do("GET /v1/kv/a", "")
	for name, value := range map[string]string{
		api.HeaderIndex: "1", api.HeaderKnownLeader: "true", api.HeaderLastContact: "0",
		api.HeaderQueryBackend: "blocking-query", api.HeaderConsistency: "", "Content-Type": "",
	} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("404: %s is %q, want %q", name, got, value)
		}
	}
	for range 3 {
		r.must("PUT /v1/kv/other", "x")
	}
	r.must("PUT /v1/kv/a", "x")
	w = r.do("GET /v1/kv/a?raw", "")
	for name, value := range map[string]string{
		api.HeaderIndex: "4", "Content-Type": "text/plain", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox",
	} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("raw: %s is %q, want %q", name, got, value)
		}
	}
	w = r.do("PUT /v1/kv/a", "x")
	if w.Header().Get(api.HeaderIndex) != "" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("a write has headers %v", w.Header())
	}
}

func TestTxn(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxKVValueSize = 20 })
	many, _ := json.Marshal(make([]struct{}, api.MaxTxnOps+1))
	const meta = `"Index":1,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`
	r.check(t, []want{
		{"PUT /v1/txn", "", 400, "Failed to parse body: EOF"},
		{"PUT /v1/txn", "[", 400, "Failed to parse body: unexpected EOF"},
		{"PUT /v1/txn", `[{"KV":{"Verb":"set","Key":"a","Value":"!"}}]`, 400, "~Failed to parse body: illegal base64"},
		{"PUT /v1/txn", `[{"KV":{"Verb":"set","Kee":"a"}}]`, 400, `Failed to parse body: json: unknown field "Kee"`},
		{"PUT /v1/txn", string(many), 413, "Transaction contains too many operations (129 > 128)"},
		{"PUT /v1/txn", `[{"KV":{"Verb":"set","Key":"a","Value":"YWFhYWFhYWFhYWFhYWFhYWFhYWFh"}}]`, 413,
			`Value for key "a" is too large (21 > 20 bytes)`},
		{"PUT /v1/txn", "[{}]", 200, `{"Results":[],"Errors":null,` + meta},
		{"PUT /v1/txn", "null", 200, `{"Results":[],"Errors":null,` + meta},
		{"PUT /v1/txn", `[{"KV":{"Verb":"set","Key":"a","Value":"eA=="}},{}]`, 200,
			`{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":1}}],"Errors":null}`},
		{"PUT /v1/txn", `[{"KV":{"Verb":"get","Key":"a"}}]`, 200,
			`{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":"eA==","CreateIndex":1,"ModifyIndex":1}}],"Errors":null,` + meta},
		{"PUT /v1/txn", `[{"KV":{"Verb":"get","Key":"b"}}]`, 409,
			`{"Results":null,"Errors":[{"OpIndex":0,"What":"key \"b\" doesn't exist"}],` + meta},
		{"PUT /v1/txn", `[{"KV":{"Verb":"delete","Key":"a"}},{"KV":{"Verb":"cas","Key":"b","Index":9}}]`, 409,
			`{"Results":null,"Errors":[{"OpIndex":1,"What":"failed to set key \"b\", index is stale"}]}`},
		{"GET /v1/kv/a?raw", "", 200, "x"},
		{"PUT /v1/txn", `[{"KV":{"Verb":"delete","Key":"a"}}]`, 200, `{"Results":[],"Errors":null}`},
		{"PUT /v1/txn", `[{"Node":{"Verb":"set","Node":{"Node":"tn","Address":"10.0.0.9"}}}]`, 200, `~"Address":"10.0.0.9","Datacenter":"dc1"`},
		{"PUT /v1/txn", `[{"Node":{"Verb":"set","Node":{"Node":"tn","Datacenter":"elsewhere"}}}]`, 500, "No path to datacenter"},
		{"PUT /v1/txn", `[{"KV":{"Verb":"lock","Key":"a","Session":"s"}}]`, 409, `~invalid session`},
	})
}

func TestTxnHeaders(t *testing.T) {
	r := newRig(t)
	w := r.do("PUT /v1/txn", `[{"KV":{"Verb":"get-or-empty","Key":"b"}}]`)
	if w.Code != 200 || w.Header().Get(api.HeaderKnownLeader) != "true" || w.Header().Get(api.HeaderIndex) != "" {
		t.Errorf("read: %d %v", w.Code, w.Header())
	}
	w = r.do("PUT /v1/txn", `[{"KV":{"Verb":"set","Key":"b"}}]`)
	if w.Code != 200 || w.Header().Get(api.HeaderKnownLeader) != "" {
		t.Errorf("write: %d %v", w.Code, w.Header())
	}
}

// What the official Go client sends: every field of its types, set or not.
func TestTxnFromOfficialClient(t *testing.T) {
	r := newRig(t)
	body := `[{"Node":{"Verb":"set","Node":{"ID":"","Node":"n","Address":"10.0.0.9","Datacenter":"","TaggedAddresses":null,"Meta":null,"CreateIndex":0,"ModifyIndex":0}}},
	{"Service":{"Verb":"set","Node":"n","Service":{"ID":"s","Service":"s","Tags":null,"Meta":null,"Port":0,"Address":"","Weights":{"Passing":0,"Warning":0},"EnableTagOverride":false,"Proxy":{"Mode":""},"Connect":{"Native":true}}}},
	{"Check":{"Verb":"set","Check":{"Node":"n","CheckID":"c","Name":"c","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":null,"Type":"","ExposedPort":0,
	  "Definition":{"Interval":"10s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s","HTTP":"","Header":null,"Method":"","Body":"","TLSServerName":"","TLSSkipVerify":false,"TCP":"x:1","TCPUseTLS":false,"UDP":"","GRPC":"","OSService":"","GRPCUseTLS":false},
	  "CreateIndex":0,"ModifyIndex":0}}}]`
	r.check(t, []want{{"PUT /v1/txn", body, 200, `~"Status":"passing"`}})
}
