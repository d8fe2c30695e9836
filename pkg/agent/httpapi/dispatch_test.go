package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/bus"
	"github.com/muster-dev/muster/pkg/agent/exec"
	"github.com/muster-dev/muster/pkg/api"
)

func asClient(c *Config) { c.Cluster = nil }

func follow(addr string) func(*fakeCluster) { return func(c *fakeCluster) { c.follower = addr } }

func TestWhereRequestsRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		setup  func(*Config)
		change func(*fakeCluster)
		rows   map[string]string // target -> call to the forwarder; "" when it runs here
	}{
		{"client agent", asClient, nil, map[string]string{
			"GET /v1/agent/services":        "",
			"GET /v1/status/leader":         "server forwards 1 GET /v1/status/leader",
			"GET /v1/catalog/nodes?stale":   "server forwards 1 GET /v1/catalog/nodes?stale",
			"GET /v1/kv/a?index=3&wait=10s": "server forwards 1 GET /v1/kv/a?index=3&wait=10m0s",
			"PUT /v1/kv/a":                  "server forwards 1 PUT /v1/kv/a body",
		}},
		{"follower", nil, follow("l:1"), map[string]string{
			"GET /v1/agent/services":          "",
			"GET /v1/status/leader":           "",
			"GET /v1/catalog/nodes?stale":     "",
			"GET /v1/catalog/nodes":           "leader l:1 forwards 0 GET /v1/catalog/nodes",
			"GET /v1/kv/a?consistent":         "leader l:1 forwards 0 GET /v1/kv/a?consistent",
			"PUT /v1/kv/a?stale":              "leader l:1 forwards 0 PUT /v1/kv/a?stale body",
			"DELETE /v1/kv/a":                 "leader l:1 forwards 0 DELETE /v1/kv/a",
			"GET /v1/catalog/nodes?leader=":   "leader l:1 forwards 0 GET /v1/catalog/nodes?leader=",
			"GET /v1/health/state/any?cached": "leader l:1 forwards 0 GET /v1/health/state/any?cached",
		}},
		{"follower that catches up", nil, func(c *fakeCluster) { c.follower, c.caughtUp = "l:1", true }, map[string]string{
			"GET /v1/catalog/nodes":               "",
			"GET /v1/session/list?consistent":     "",
			"GET /v1/kv/a?index=3&wait=10s":       "leader l:1 forwards 0 GET /v1/kv/a?index=3&wait=10s",
			"GET /v1/operator/raft/configuration": "leader l:1 forwards 0 GET /v1/operator/raft/configuration",
			"PUT /v1/kv/a":                        "leader l:1 forwards 0 PUT /v1/kv/a body",
		}},
		{"leader", nil, nil, map[string]string{
			"GET /v1/catalog/nodes": "", "GET /v1/catalog/nodes?consistent": "", "PUT /v1/kv/a": "",
		}},
		{"follower too stale", nil, func(c *fakeCluster) { c.follower, c.contact = "l:1", time.Minute }, map[string]string{
			"GET /v1/catalog/nodes?max_stale=2m":  "",
			"GET /v1/catalog/nodes?max_stale=10s": "leader l:1 forwards 0 GET /v1/catalog/nodes?max_stale=10s",
			"GET /v1/kv/?keys&max_stale=10s":      "",
		}},
		{"discovery_max_stale", func(c *Config) { c.DiscoveryMaxStale = time.Hour }, follow("l:1"), map[string]string{
			"GET /v1/catalog/nodes":            "",
			"GET /v1/catalog/nodes?leader":     "leader l:1 forwards 0 GET /v1/catalog/nodes?leader",
			"GET /v1/catalog/nodes?consistent": "leader l:1 forwards 0 GET /v1/catalog/nodes?consistent",
			"GET /v1/kv/?keys":                 "leader l:1 forwards 0 GET /v1/kv/?keys",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *Config) {
				if c.setup != nil {
					c.setup(cfg)
				}
			})
			if c.change != nil {
				r.cluster.set(c.change)
			}
			for target, call := range c.rows {
				r.forward.calls = nil
				body := ""
				if strings.HasPrefix(target, "PUT") {
					body = "body"
				}
				w := r.do(target, body)
				got := strings.Join(r.forward.calls, ";")
				if got != call || w.Code != 200 {
					t.Errorf("%s: %d, forwarded %q, want %q", target, w.Code, got, call)
				}
				if call != "" && !strings.HasPrefix(w.Body.String(), "from ") {
					t.Errorf("%s: the answer of the other side was lost: %q", target, w.Body)
				}
			}
		})
	}
}

func TestAConsistentReadOfAFollowerNeedsProof(t *testing.T) {
	r := newRig(t)
	r.cluster.set(func(c *fakeCluster) { c.follower, c.caughtUp = "l:1", true })
	r.do("GET /v1/session/list", "")
	r.do("GET /v1/session/list?consistent", "")
	if want := []bool{false, true}; !slices.Equal(r.cluster.asked, want) {
		t.Errorf("asked the leader with proof: %v, want %v", r.cluster.asked, want)
	}
}

// A follower may have shown what the leader has not applied yet.
func TestLeaderSettlesBeforeItReads(t *testing.T) {
	r := newRig(t)
	r.do("GET /v1/catalog/nodes", "")
	r.do("PUT /v1/kv/a", "v")
	if r.cluster.settled != 1 || r.cluster.verified != 0 {
		t.Errorf("a read and a write: settled %d times, verified %d times", r.cluster.settled, r.cluster.verified)
	}
}

func TestStaleReadOnlyTxnRunsOnFollower(t *testing.T) {
	r := newRig(t)
	r.cluster.set(follow("l:1"))
	r.do("PUT /v1/txn?stale", `[{"KV":{"Verb":"get-tree","Key":"a"}}]`)
	if len(r.forward.calls) != 0 {
		t.Errorf("a stale transaction that only reads was forwarded: %v", r.forward.calls)
	}
	r.do("PUT /v1/txn?stale", `[{"KV":{"Verb":"set","Key":"a"}}]`)
	if len(r.forward.calls) != 1 {
		t.Errorf("a write was not forwarded: %v", r.forward.calls)
	}
}

// forwarded is what a request's headers say of its way so far: by the two headers, or
// by the one that versions without them send.
var forwarded = []struct {
	name     string
	header   []string
	toLeader bool
	last     bool // it is not to be forwarded again
}{
	{"nothing", nil, false, false},
	{"to a server", []string{api.HeaderTarget, api.TargetServer, api.HeaderForwards, "1"}, false, false},
	{"to a server, for the last time", []string{api.HeaderTarget, api.TargetServer, api.HeaderForwards, "0"}, false, true},
	{"to a server, below zero", []string{api.HeaderTarget, api.TargetServer, api.HeaderForwards, "-1"}, false, true},
	{"to the leader", []string{api.HeaderTarget, api.TargetLeader, api.HeaderForwards, "0"}, true, true},
	{"to the leader, which is not to forward it whatever is said", []string{api.HeaderTarget, api.TargetLeader, api.HeaderForwards, "5"}, true, true},
	{"to nobody that is known", []string{api.HeaderTarget, "x", api.HeaderForwards, "x"}, false, false},

	{"by an old agent, to a server", []string{api.HeaderHops, "1"}, false, false},
	{"by an old server, to the leader", []string{api.HeaderHops, "2"}, true, true},
	{"by an old server, too often", []string{api.HeaderHops, "99"}, true, true},
	{"by an old agent, nonsense", []string{api.HeaderHops, "x"}, false, false},
	// An old server knows one of the three headers, and passes the others on as they came.
	{"by an old server, for a new agent", []string{api.HeaderTarget, api.TargetServer, api.HeaderForwards, "1", api.HeaderHops, "2"}, true, true},
}

// A request travels agent -> server -> leader at most.
func TestForwardsAreBounded(t *testing.T) {
	for _, c := range forwarded {
		r := newRig(t)
		r.cluster.set(follow("l:1"))
		want := "from leader l:1 forwards 0"
		if c.last {
			want = api.TextNoLeader
		}
		if w := r.send(t.Context(), r.api.Internal(), "PUT /v1/kv/a", "v", c.header...); w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", c.name, w.Code, w.Body, want)
		}
		// A client's own word counts for nothing.
		if w := r.do("PUT /v1/kv/a", "v", c.header...); w.Code != 200 {
			t.Errorf("a client's %v was believed: %d %q", c.header, w.Code, w.Body)
		}
	}
	agent := newRig(t, asClient)
	w := agent.send(t.Context(), agent.api.Internal(), "PUT /v1/kv/a", "v", api.HeaderForwards, "0")
	if w.Body.String() != api.TextNoServers || len(agent.forward.calls) != 0 {
		t.Errorf("at an agent that is no server, for the last time: %q, forwarded %q", w.Body, agent.forward.calls)
	}
}

func TestWhatMayBeSentTwice(t *testing.T) {
	for _, change := range []func(*Config){asClient, func(*Config) {}} {
		r := newRig(t, change)
		r.cluster.set(follow("l:1"))
		for target, want := range map[string]bool{
			"GET /v1/kv/a": true, "POST /v1/subscribe": true,
			"PUT /v1/kv/a": false, "DELETE /v1/kv/a": false, "PUT /v1/txn": false, "PUT /v1/session/renew/x": false,
		} {
			r.forward.safe = nil
			if r.do(target, ""); !slices.Equal(r.forward.safe, []bool{want}) {
				t.Errorf("%s may be sent twice: %v, want %v", target, r.forward.safe, want)
			}
		}
	}
}

// A request waits for a leader for the hold timeout, but for a moment only where
// it was sent on to one: who sent it can look elsewhere.
func TestHowLongALeaderIsAwaited(t *testing.T) {
	for _, c := range forwarded {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.HoldTimeout = 7 * time.Second })
			r.cluster.set(func(c *fakeCluster) { c.electing = true })
			want := 7 * time.Second
			if c.toLeader {
				want = maxLeaderWait
			}
			began := time.Now()
			w := r.send(context.Background(), r.api.Internal(), "GET /v1/kv/a", "", c.header...)
			if took := time.Since(began); took != want || w.Body.String() != api.TextNoLeader || w.Code != 500 {
				t.Errorf("%s: %d %q after %v, want %v", c.name, w.Code, w.Body, took, want)
			}
		})
	}
}

func TestServerPortHasNoAgentEndpoints(t *testing.T) {
	r := newRig(t)
	gone, hangUp := context.WithCancel(context.Background()) // or a stream would not end
	hangUp()
	for _, rt := range routes() {
		w := r.send(gone, r.api.Internal(), strings.Split(rt.methods, ",")[0]+" "+rt.path, "")
		if refused := w.Code == 404 && strings.Contains(w.Body.String(), "not a recognized"); refused != (rt.where == here) {
			t.Errorf("%s on the server port: %d %q", rt.path, w.Code, w.Body)
		}
	}
}

// What this agent asks itself may be inside, and travels as everything else does.
func TestOwnRequestsReachWhatIsInside(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		calls  []string
	}{
		"client agent": {asClient, []string{"server forwards 1 GET /v1/internal/elected/x", "server forwards 1 PUT " + exec.ClaimPath + "x {}"}},
		"follower":     {func(*Config) {}, []string{"leader l:1 forwards 0 PUT " + exec.ClaimPath + "x {}"}},
	} {
		r := newRig(t, c.change)
		r.cluster.set(follow("l:1"))
		for _, target := range []string{"GET /v1/internal/elected/x", "PUT " + exec.ClaimPath + "x"} {
			body := ""
			if strings.HasPrefix(target, "PUT") {
				body = "{}"
			}
			r.send(t.Context(), r.api.Own(), target, body)
			if w := r.do(target, body); w.Code != 404 {
				t.Errorf("%s: a client address has %s: %d", name, target, w.Code)
			}
		}
		if !slices.Equal(r.forward.calls, c.calls) {
			t.Errorf("%s: forwarded %q, want %q", name, r.forward.calls, c.calls)
		}
		if w := r.send(t.Context(), r.api.Own(), "GET "+bus.Path, ""); w.Code != 404 {
			t.Errorf("%s: asks itself for messages: %d", name, w.Code)
		}
	}
}

func TestLeaderIsLookedForAgain(t *testing.T) {
	r := newRig(t)
	r.cluster.set(follow("l:1"))
	refused := api.ErrNoLeader
	r.forward.errs = []error{refused, refused}
	if w := r.do("PUT /v1/kv/a", "v"); w.Code != 200 || len(r.forward.calls) != 3 || r.forward.calls[2] != r.forward.calls[0] {
		t.Errorf("%d %q after %q", w.Code, w.Body, r.forward.calls)
	}
	// Past the hold timeout it gives up.
	r.forward.calls, r.forward.errs = nil, slices.Repeat([]error{refused}, 100)
	began := time.Now()
	w := r.do("PUT /v1/kv/a", "v")
	if w.Code != 500 || w.Body.String() != api.TextNoLeader {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if took := time.Since(began); took > 5*time.Second || len(r.forward.calls) < 2 {
		t.Errorf("gave up after %v and %d calls", took, len(r.forward.calls))
	}
	// A write of unknown outcome is not sent again.
	r.forward.calls, r.forward.errs = nil, []error{fmt.Errorf("%w: x", api.ErrUnknownWrite)}
	if w := r.do("PUT /v1/kv/a", "v"); w.Code != 500 || len(r.forward.calls) != 1 {
		t.Errorf("%d %q after %q", w.Code, w.Body, r.forward.calls)
	}
}

func TestDeposedLeaderTriesAgain(t *testing.T) {
	r := newRig(t)
	r.cluster.set(func(c *fakeCluster) { c.proposeErr = []error{api.ErrNoLeader} })
	if got := r.must("PUT /v1/kv/a", "v"); got != "true" {
		t.Errorf("answered %q", got)
	}
	// What wraps the error is not a part of the answer: agents and clients compare that.
	r.cluster.set(func(c *fakeCluster) { c.awaitErr = fmt.Errorf("%w: three servers are missing", api.ErrNoLeader) })
	if w := r.do("PUT /v1/kv/a", "v"); w.Body.String() != api.TextNoLeader {
		t.Errorf("answered %q", w.Body)
	}
}

// The error of a write that was cut short by the end of the leadership tells of both.
func TestUnknownOutcomeIsNotTriedAgain(t *testing.T) {
	r := newRig(t)
	both := fmt.Errorf("%w: %w", api.ErrUnknownWrite, api.ErrNoLeader)
	r.cluster.set(func(c *fakeCluster) { c.proposeErr = []error{both} })
	if w := r.do("PUT /v1/kv/a", "v"); w.Code != 500 || w.Body.String() != both.Error() {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestNoTruthNoAnswer(t *testing.T) {
	r := newRig(t)
	noLeader := api.ErrNoLeader
	r.cluster.set(func(c *fakeCluster) { c.awaitErr = noLeader })
	r.check(t, []want{
		{"GET /v1/catalog/nodes", "", 500, api.TextNoLeader},
		{"GET /v1/kv/a", "", 500, api.TextNoLeader},
		{"PUT /v1/kv/a", "v", 500, api.TextNoLeader},
		{"GET /v1/catalog/nodes?stale", "", 200, "[]"},
		{"GET /v1/status/leader", "", 200, `"10.0.0.1:8300"`},
	})
	if h := r.do("GET /v1/kv/a", "").Header(); h.Get(api.HeaderIndex) != "" {
		t.Errorf("a failed KV read has headers %v", h)
	}
	r.cluster.set(func(c *fakeCluster) { c.awaitErr, c.staleErr = nil, api.Errorf(500, "not yet") })
	r.check(t, []want{{"GET /v1/catalog/nodes?stale", "", 500, "not yet"}})
	r.cluster.set(func(c *fakeCluster) { c.verifyErr = api.ErrNotConsistent })
	r.check(t, []want{
		{"GET /v1/catalog/nodes?consistent", "", 500, api.TextNotConsistent},
		{"GET /v1/catalog/nodes", "", 200, "[]"},
	})
	if r.cluster.verified != 1 {
		t.Errorf("leadership was verified %d times, want 1", r.cluster.verified)
	}
}

// A write whose leader steps down while it is under way is never sent again, whatever
// its parameters say: a blocking read would be.
func TestWriteOfADeposedLeaderIsNotSentAgain(t *testing.T) {
	for _, target := range []string{
		"PUT /v1/kv/a", "PUT /v1/kv/a?index=1", "PUT /v1/kv/a?index=1&wait=1s", "PUT /v1/kv/a?changes-since=1", "DELETE /v1/kv/a?index=1",
		"PUT /v1/event/ack/e?index=1", "PUT /v1/session/create?index=1", "PUT /v1/txn?index=1",
	} {
		r := newRig(t)
		r.cluster.set(func(c *fakeCluster) { c.proposing = func() { c.depose("l:2") } })
		body := "{}"
		if strings.Contains(target, "txn") {
			body = `[{"KV":{"Verb":"set","Key":"a"}}]`
		}
		w := r.do(target, body)
		if len(r.forward.calls) != 0 || !strings.Contains(w.Body.String(), api.TextUnknownWrite) {
			t.Errorf("%s: %d %q, sent on %q", target, w.Code, w.Body, r.forward.calls)
		}
	}
}
