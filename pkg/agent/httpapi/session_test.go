package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// sessionRig has this agent's node, with a passing and a warning check, a
// critical one, and another node.
func sessionRig(t *testing.T) *rig {
	r := newRig(t)
	r.must("PUT /v1/catalog/register", `{"Node":"n1","Address":"10.0.0.1","Checks":[{"CheckID":"serfHealth","Name":"s","Status":"passing"},
		{"CheckID":"warns","Name":"w","Status":"warning"},{"CheckID":"bad","Name":"b","Status":"critical"}]}`)
	r.must("PUT /v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2"}`)
	return r
}

func (r *rig) session(body string) string {
	r.t.Helper()
	var out struct{ ID string }
	if err := json.Unmarshal([]byte(r.must("PUT /v1/session/create", body)), &out); err != nil || len(out.ID) != 36 {
		r.t.Fatalf("created %+v, %v", out, err)
	}
	return out.ID
}

// What may be asked of session/create, and what it makes of it. The rows were
// compared with a Consul 1.8.7.
func TestSessionBodies(t *testing.T) {
	r := sessionRig(t)
	const (
		lists    = `"NodeChecks":["serfHealth"],"ServiceChecks":null`
		defaults = `"Name":"","Node":"n1","LockDelay":15000000000,"Behavior":"release","TTL":"",` + lists
	)
	for body, want := range map[string]string{
		``: defaults, `{}`: defaults, `null`: defaults, `{"Unknown":1,"ID":"mine"}`: defaults, `{"LockDelay":null}`: defaults,
		`{"name":"x","NODE":"N2","Checks":[],"TTL":"10s","Behavior":"delete"}`: `"Name":"x","Node":"n2","LockDelay":15000000000,"Behavior":"delete","TTL":"10s","NodeChecks":[],"ServiceChecks":null`,
		`{"NodeChecks":[]}`:                         strings.Replace(defaults, `["serfHealth"]`, `[]`, 1),
		`{"Checks":[]}`:                             strings.Replace(defaults, `["serfHealth"]`, `[]`, 1),
		`{"Checks":null}`:                           strings.Replace(defaults, `["serfHealth"]`, `[]`, 1),
		`{"NodeChecks":null}`:                       strings.Replace(defaults, `["serfHealth"]`, `null`, 1),
		`{"NodeChecks":["bad"],"Checks":["warns"]}`: strings.Replace(defaults, `serfHealth`, `warns`, 1),
		`{"ServiceChecks":[{"ID":"warns"}]}`:        strings.Replace(defaults, `"ServiceChecks":null`, `"ServiceChecks":[{"ID":"warns","Namespace":""}]`, 1),
		`{"LockDelay":5}`:                           strings.Replace(defaults, `15000000000`, `5000000000`, 1),
		`{"LockDelay":"500ns"}`:                     strings.Replace(defaults, `15000000000`, `500000000000`, 1),
		`{"LockDelay":1e10}`:                        strings.Replace(defaults, `15000000000`, `10000000000`, 1),
		`{"LockDelay":"0s"}`:                        strings.Replace(defaults, `15000000000`, `0`, 1),
		`{"LockDelay":0}`:                           strings.Replace(defaults, `15000000000`, `0`, 1),
		`{"LockDelay":"1h"}`:                        strings.Replace(defaults, `15000000000`, `3600000000000`, 1),
		`{"TTL":"0s"}`:                              strings.Replace(defaults, `"TTL":""`, `"TTL":"0s"`, 1),
	} {
		id := r.session(body)
		if got := r.must("GET /v1/session/info/"+id, ""); !strings.HasPrefix(got, `[{"ID":"`+id+`",`+want+`,"CreateIndex":`) {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	r.check(t, []want{
		{"PUT /v1/session/create", `{"LockDelay":"500"}`, 400, `Request decode failed: time: missing unit in duration "500"`},
		{"PUT /v1/session/create", `{"LockDelay":""}`, 400, `Request decode failed: time: invalid duration ""`},
		{"PUT /v1/session/create", `{"TTL":10}`, 400, "~Request decode failed: json: cannot unmarshal number"},
		{"PUT /v1/session/create", `{"NodeChecks":"x"}`, 400, "~Request decode failed: json: cannot unmarshal string"},
		{"PUT /v1/session/create", `[]`, 400, "~Request decode failed: json: cannot unmarshal array"},
		{"PUT /v1/session/create", `{"Node":"zz"}`, 500, "apply failed: Missing node registration"},
		{"PUT /v1/session/create", `{"NodeChecks":["nope"]}`, 500, "apply failed: Missing check 'nope' registration"},
		{"PUT /v1/session/create", `{"ServiceChecks":[{"ID":"nope"}]}`, 500, "apply failed: Missing check 'nope' registration"},
		{"PUT /v1/session/create", `{"NodeChecks":["bad"]}`, 500, "apply failed: Check 'bad' is in critical state"},
		{"PUT /v1/session/create", `{"Behavior":"zz"}`, 500, "Invalid Behavior setting 'zz'"},
		{"PUT /v1/session/create", `{"TTL":"9s"}`, 500, "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]"},
		{"PUT /v1/session/create", `{"TTL":"25h"}`, 500, "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]"},
		{"PUT /v1/session/create", `{"TTL":"-1s"}`, 500, "Invalid Session TTL '-1000000000', must be between [10s=24h0m0s]"},
		{"PUT /v1/session/create", `{"TTL":"x"}`, 500, `Session TTL 'x' invalid: time: invalid duration "x"`},
		{"PUT /v1/session/create?dc=far", ``, 500, "No path to datacenter"},
		{"PUT /v1/session/create?ns=x", ``, 400, `~Namespaces are a Consul Enterprise feature`},
	})
}

func TestSessionRoutes(t *testing.T) {
	r := sessionRig(t)
	id := r.session(`{"Name":"one"}`)
	other := r.session(`{"Node":"n2","NodeChecks":[]}`)
	r.check(t, []want{
		{"PUT /v1/session/destroy/", "", 400, "Missing session"},
		{"PUT /v1/session/renew/", "", 400, "Missing session"},
		{"GET /v1/session/info/", "", 400, "Missing session"},
		{"GET /v1/session/node/", "", 400, "Missing node name"},
		{"PUT /v1/session/renew/nobody", "", 404, "Session id 'nobody' not found"},
		{"GET /v1/session/info/nobody", "", 200, "[]"},
		{"GET /v1/session/node/nobody", "", 200, "[]"},
		{"PUT /v1/session/destroy/nobody", "", 200, "true"},
		{"PUT /v1/session/renew/" + id, "", 200, `~[{"ID":"` + id + `","Name":"one"`},
		{"GET /v1/session/node/N1", "", 200, `~[{"ID":"` + id},
		{"GET /v1/session/node/n2", "", 200, `~[{"ID":"` + other},
		{"PUT /v1/session/destroy/" + id, "", 200, "true"},
		{"GET /v1/session/info/" + id, "", 200, "[]"},
		{"GET /v1/session/list", "", 200, `~[{"ID":"` + other},
	})
	w := r.do("GET /v1/session/list?consistent", "")
	if h := w.Header(); h.Get(api.HeaderIndex) == "" || h.Get(api.HeaderKnownLeader) != "true" || h.Get(api.HeaderConsistency) != "" {
		t.Errorf("headers are %v", h)
	}
	if w = r.do("PUT /v1/session/renew/"+other, ""); w.Header().Get(api.HeaderIndex) != "" {
		t.Errorf("a renewal has headers %v", w.Header())
	}
	r.cluster.set(func(c *fakeCluster) { c.electing = true })
	if w = r.do("GET /v1/session/list", ""); w.Code != 500 || w.Header().Get(api.HeaderIndex) != "1" || w.Header().Get(api.HeaderKnownLeader) != "false" {
		t.Errorf("without a leader: %d %v", w.Code, w.Header())
	}
}

// A renewal is no better than the leadership of who answers it.
func TestRenewalNeedsALeaderThatIsOne(t *testing.T) {
	r := sessionRig(t)
	id := r.session(``)
	r.cluster.set(func(c *fakeCluster) { c.verifyErr = api.ErrNoLeader })
	if w := r.do("PUT /v1/session/renew/"+id, ""); w.Code != 500 || w.Body.String() != api.TextNoLeader {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The node of a session is that of the agent that was asked, wherever the
// request goes.
func TestSessionIsTheAskedAgents(t *testing.T) {
	client := newRig(t, func(c *Config) { c.Cluster, c.NodeName = nil, "away" })
	client.do("PUT /v1/session/create", `{"Name":"x","LockDelay":7}`)
	if len(client.forward.calls) != 1 || !strings.Contains(client.forward.calls[0], `"Node":"away","LockDelay":7000000000,`) {
		t.Errorf("sent on: %q", client.forward.calls)
	}
	if w := client.do("PUT /v1/session/create", `{"LockDelay":"x"}`); w.Code != 400 || len(client.forward.calls) != 1 {
		t.Errorf("nonsense: %d, sent on: %q", w.Code, client.forward.calls)
	}
	server := sessionRig(t)
	_, body, _ := strings.Cut(client.forward.calls[0], "{")
	w := server.send(context.Background(), server.api.Internal(), "PUT /v1/session/create", "{"+body)
	if w.Code != 500 || w.Body.String() != "apply failed: Missing node registration" {
		t.Errorf("the server made of it: %d %s", w.Code, w.Body)
	}
}

func TestLocksOverHTTP(t *testing.T) {
	r := sessionRig(t)
	s1, s2 := r.session(`{"LockDelay":0}`), r.session(``)
	r.check(t, []want{
		{"PUT /v1/kv/l?acquire=" + s1, "a", 200, "true"},
		{"PUT /v1/kv/l?acquire=" + s2, "b", 200, "false"},
		{"PUT /v1/kv/l?release=" + s2, "b", 200, "false"},
		{"PUT /v1/kv/l?acquire=nobody", "b", 500, `raft apply failed: invalid session "nobody"`},
		{"PUT /v1/kv/l?release=nobody", "b", 200, "false"},
		{"PUT /v1/kv/l?acquire=", "b", 500, "raft apply failed: missing session"},
		{"PUT /v1/kv/l?release=", "b", 500, "raft apply failed: missing session"},
		{"GET /v1/kv/l", "", 200, `~"Session":"` + s1 + `"`},
		{"PUT /v1/txn", `[{"KV":{"Verb":"lock","Key":"l","Session":"` + s2 + `"}}]`, 409, `~failed to lock key \"l\", lock is already held`},
		{"PUT /v1/session/destroy/" + s1, "", 200, "true"},
		{"PUT /v1/kv/l?acquire=" + s2, "b", 200, "true"},
		{"PUT /v1/session/destroy/" + s2, "", 200, "true"},
	})
	s3 := r.session(`{"LockDelay":0}`)
	r.check(t, []want{
		{"PUT /v1/kv/l?acquire=" + s3, "c", 200, "false"}, // the lock-delay of s2
		{"PUT /v1/txn", `[{"KV":{"Verb":"lock","Key":"l","Session":"` + s3 + `"}}]`, 409, `~failed to lock key \"l\" due to lock delay`},
		{"PUT /v1/kv/l", "d", 200, "true"},
		{"GET /v1/kv/l?raw", "", 200, "d"},
	})
}

func TestFencesAndTimesOfKeys(t *testing.T) {
	r := sessionRig(t)
	s := r.session(`{"LockDelay":0}`)
	w := r.do("PUT /v1/kv/l?acquire="+s, "a")
	token := w.Header().Get(api.HeaderLockToken)
	var pairs []api.KVPair
	if err := json.Unmarshal([]byte(r.must("GET /v1/kv/l", "")), &pairs); err != nil || token != strconv.FormatUint(pairs[0].ModifyIndex, 10) {
		t.Fatalf("token %q, key %+v, %v", token, pairs, err)
	}
	if w := r.do("PUT /v1/kv/l?acquire="+s, "changed"); w.Header().Get(api.HeaderLockToken) != token {
		t.Errorf("acquired again: token %q, want %q", w.Header().Get(api.HeaderLockToken), token)
	}
	r.check(t, []want{
		{"PUT /v1/kv/d?fence=l:" + token, "1", 200, "true"},
		{"PUT /v1/kv/d?fence=l:1", "2", 200, "false"},
		{"PUT /v1/kv/d?cas=0&fence=l:" + token, "2", 200, "false"},
		{"DELETE /v1/kv/d?fence=l:1", "", 200, "false"},
		{"DELETE /v1/kv/?recurse&fence=l:1", "", 200, "false"},
		{"GET /v1/kv/d?raw", "", 200, "1"},
		{"PUT /v1/kv/d?fence=l", "2", 400, `Invalid fence "l": it must be LOCKKEY:TOKEN, such as deploy/.lock:1234`},
		{"PUT /v1/kv/d?fence=:5", "2", 400, `Invalid fence ":5": it must be LOCKKEY:TOKEN, such as deploy/.lock:1234`},
		{"PUT /v1/kv/d?ttl=5", "2", 400, `Invalid ttl "5": it must be a duration above zero and at most 87600h0m0s, such as 30s`},
		{"PUT /v1/kv/d?ttl=-5s", "2", 400, `~Invalid ttl "-5s"`},
		{"PUT /v1/kv/d?ttl=2000000h", "2", 400, `~Invalid ttl "2000000h"`},
		{"PUT /v1/kv/l?release=" + s, "", 200, "true"},
		{"PUT /v1/kv/d?fence=l:" + token, "2", 200, "false"},
		{"DELETE /v1/kv/d", "", 200, "true"},
		{"PUT /v1/kv/brief?ttl=1ns", "2", 200, "true"},
		{"PUT /v1/kv/long?ttl=1h", "2", 200, "true"},
	})
	time.Sleep(time.Microsecond)
	if _, err := r.cluster.Propose(t.Context(), &state.Reap{}); err != nil {
		t.Fatal(err)
	}
	r.check(t, []want{
		{"GET /v1/kv/brief", "", http.StatusNotFound, ""},
		{"GET /v1/kv/long?raw", "", 200, "2"},
	})
}

// The token in an answer is that of the acquisition that it answers, also where the
// lock has another holder by the time that the answer is written.
func TestTokenIsOfItsAcquisition(t *testing.T) {
	r := sessionRig(t)
	first, second := r.session(`{"LockDelay":0}`), r.session(`{"LockDelay":0}`)
	lock := func(session string) *state.KV {
		return &state.KV{Op: state.KVLock, Entry: api.KVPair{Key: "l", Session: session}}
	}
	r.cluster.set(func(c *fakeCluster) {
		c.afterwards = []state.Command{&state.SessionDestroy{ID: first}, lock(second)}
	})
	w := r.do("PUT /v1/kv/l?acquire="+first, "a")
	mine, next := w.Header().Get(api.HeaderLockToken), strconv.FormatUint(r.cluster.Views().Snapshot().LockToken("l"), 10)
	if w.Body.String() != "true" || mine == "" || mine == next {
		t.Fatalf("answered %q with token %q; the holder's is %q", w.Body, mine, next)
	}
	r.check(t, []want{
		{"PUT /v1/kv/d?fence=l:" + mine, "of the former holder", 200, "false"},
		{"PUT /v1/kv/d?fence=l:" + next, "of the holder", 200, "true"},
	})
	// Nobody holds it when the answer is written: the token is there all the same.
	r.cluster.set(func(c *fakeCluster) { c.afterwards = []state.Command{&state.SessionDestroy{ID: second}} })
	if w := r.do("PUT /v1/kv/l?acquire="+second, "b"); w.Header().Get(api.HeaderLockToken) != next {
		t.Errorf("token %q, want %q", w.Header().Get(api.HeaderLockToken), next)
	}
}
