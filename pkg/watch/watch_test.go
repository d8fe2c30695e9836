package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	web   = Request{Path: "/v1/health/service/web", Params: "passing=1"}
	nodes = Request{Path: "/v1/catalog/nodes"}
	key   = Request{Path: "/v1/kv/a"}
)

const oneWeb = `[{"Node":{"Node":"n1"},"Service":{"ID":"web1","Service":"web"},"Checks":[]}]`

func TestFramesHoldWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.set(nodes.Path, `[{"Node":"n1"}]`, 6)
		r.Follow([]Request{web, nodes})
		first := r.frame(time.Second)
		if len(first.Results) != 2 || first.Index != 0 {
			t.Fatalf("first frame %+v", first)
		}
		services := first.Results[web].Value.([]*api.CheckServiceNode)
		if len(services) != 1 || services[0].Service.ID != "web1" || first.Results[web].Index != 5 {
			t.Fatalf("web is %+v", first.Results[web])
		}
		r.set(nodes.Path, `[]`, 7)
		next := r.frame(50 * time.Millisecond)
		if len(next.Results) != 1 || !next.Results[nodes].Empty {
			t.Fatalf("second frame %+v", next)
		}
		// A higher index with the same content makes no frame, over many polls.
		r.set(nodes.Path, `[]`, 8)
		r.noFrame(5 * time.Minute)
	})
}

func TestFrameWaitsUntilAllAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		slow := errors.New("no route to host")
		r.set(nodes.Path, `[]`, 5)
		r.Follow([]Request{web})
		r.frame(time.Second)
		// A query that fails does not hold the others back.
		r.failing(nodes.Path, slow)
		r.Follow([]Request{web, nodes})
		synctest.Wait()
		r.set(web.Path, `[]`, 6)
		if f := r.frame(50 * time.Millisecond); len(f.Results) != 1 {
			t.Fatalf("frame %+v", f)
		}
		if !errors.Is(r.Failing()[nodes], slow) {
			t.Fatalf("failing: %v", r.Failing())
		}
	})
}

func TestFollowGrowsAndShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.set(nodes.Path, `[{"Node":"n1"}]`, 5)
		r.Follow([]Request{web, nodes})
		r.frame(time.Second)
		r.Follow([]Request{web})
		synctest.Wait()
		asked := r.count(nodes.Path)
		r.set(nodes.Path, `[]`, 6)
		r.noFrame(3 * time.Minute)
		if got := r.count(nodes.Path); got != asked {
			t.Errorf("a dropped query was asked again: %d, then %d", asked, got)
		}
		r.Follow([]Request{web, nodes})
		if f := r.frame(time.Second); len(f.Results) != 1 || !f.Results[nodes].Empty {
			t.Fatalf("frame %+v", f)
		}
	})
}

func TestAbsentKeyIsAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.change(func() { r.indexes[key.Path] = 3 })
		r.Follow([]Request{key})
		got := r.frame(time.Second).Results[key]
		if pair, ok := got.Value.(*api.KVPair); !ok || pair != nil || !got.Empty {
			t.Fatalf("absent key is %+v", got)
		}
		r.set(key.Path, `[{"Key":"a","Value":"eA=="}]`, 4)
		got = r.frame(50 * time.Millisecond).Results[key]
		if pair := got.Value.(*api.KVPair); string(pair.Value) != "x" {
			t.Fatalf("key is %+v", pair)
		}
		r.change(func() { delete(r.bodies, key.Path); r.indexes[key.Path] = 5 })
		if !r.frame(50 * time.Millisecond).Results[key].Empty {
			t.Fatal("a deleted key is still there")
		}
	})
}

func TestOutageKeepsResultsAndIsLoggedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.set(nodes.Path, `[]`, 5)
		r.Follow([]Request{web, nodes})
		r.frame(time.Second)
		r.failing("", errors.New("connection refused"))
		r.noFrame(time.Hour)
		r.failing("", nil)
		r.noFrame(2 * time.Minute) // the same as before: no news
		log := r.log.String()
		if strings.Count(log, "cannot get data") != 1 || strings.Count(log, "got data again") != 1 {
			t.Fatalf("log:\n%s", log)
		}
		r.set(web.Path, `[]`, 6)
		r.frame(50 * time.Millisecond)
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.failing("", api.ErrNoLeader)
		r.Follow([]Request{web})
		// 250 ms, doubled, with up to a fifth of jitter: nine attempts take 64 to 77 s, then at most 72 s each.
		time.Sleep(63 * time.Second)
		if n := r.count(web.Path); n < 7 || n > 8 {
			t.Errorf("%d attempts in the first minute", n)
		}
		before := r.count(web.Path)
		time.Sleep(time.Hour)
		if n := r.count(web.Path) - before; n < 49 || n > 60 {
			t.Errorf("%d attempts in an hour", n)
		}
	})
}

// A request succeeds soon after a long outage of the agent.
func TestUnreachableAgentIsRetriedOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.failing("", errors.New("connection refused"))
		r.Follow([]Request{web})
		time.Sleep(time.Hour)
		r.failing("", nil)
		r.frame(6 * time.Second)
	})
}

func TestOneRecoveryWakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		queries := []Request{}
		for i := range 50 {
			q := Request{Path: fmt.Sprintf("/v1/health/service/s%d", i)}
			queries = append(queries, q)
			r.set(q.Path, oneWeb, 5)
		}
		r.failing("", errors.New("connection refused"))
		r.Follow(queries)
		time.Sleep(2 * time.Hour)
		r.failing("", nil)
		got := map[Request]bool{}
		for len(got) == 0 {
			for q := range r.frame(2 * time.Minute).Results {
				got[q] = true
			}
		}
		start := time.Now()
		for len(got) < len(queries) {
			for q := range r.frame(2 * time.Minute).Results {
				got[q] = true
			}
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("the last of 50 queries came %s after the first", d)
		}
	})
}

func TestAttemptsEndRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Retry: Retry{Attempts: 3}})
		r.failing("", errors.New("connection refused"))
		r.Follow([]Request{web})
		_, err := r.Next(t.Context())
		if err == nil || !strings.Contains(err.Error(), "give up on /v1/health/service/web?passing=1 after 3 attempts: connection refused") {
			t.Fatalf("error %v", err)
		}
		synctest.Wait()
		if r.err == nil || r.count(web.Path) != 3 {
			t.Fatalf("Run: %v, %d attempts", r.err, r.count(web.Path))
		}
	})
}

func TestIndexThatFallsIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5000)
		r.Follow([]Request{web})
		r.frame(time.Second)
		// The server begins anew; the old long-poll ends with an error.
		r.failing("", errors.New("EOF"))
		time.Sleep(time.Second)
		r.set(web.Path, oneWeb, 7)
		r.failing("", nil)
		r.noFrame(5 * time.Second)
		r.set(web.Path, strings.ReplaceAll(oneWeb, "web1", "web2"), 8)
		r.frame(50 * time.Millisecond)
	})
}

func TestEmptyAnswerWithoutLeaderIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.Follow([]Request{web})
		r.frame(time.Second)
		r.change(func() { r.noLeader, r.bodies[web.Path], r.indexes[web.Path] = true, "[]", 6 })
		r.noFrame(10 * time.Minute)
		r.change(func() { r.noLeader = false })
		if f := r.frame(2 * time.Minute); !f.Results[web].Empty {
			t.Fatalf("frame %+v", f)
		}
		for _, mode := range r.modes {
			if mode != "stale=false consistent=true" {
				t.Errorf("asked again with %s", mode)
			}
		}
	})
}

func TestEmptyAnswerAtALowerIndexIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{BlockWait: time.Second})
		r.set(web.Path, oneWeb, 50)
		r.Follow([]Request{web})
		r.frame(time.Second)
		r.set(web.Path, "[]", 3)
		if f := r.frame(10 * time.Second); !f.Results[web].Empty {
			t.Fatalf("frame %+v", f)
		}
		if len(r.modes) != 1 || r.modes[0] != "stale=false consistent=true" {
			t.Errorf("modes %v", r.modes)
		}
	})
}

func TestServerThatCannotBlockIsPolledSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.noBlock = true
		r.set(web.Path, oneWeb, 5)
		r.Follow([]Request{web})
		r.frame(time.Second)
		before := r.count(web.Path)
		time.Sleep(time.Minute)
		if n := r.count(web.Path) - before; n > 260 {
			t.Errorf("%d requests in a minute", n)
		}
		r.set(nodes.Path, `[]`, 0) // an answer without an index is polled
		r.Follow([]Request{nodes})
		time.Sleep(time.Minute)
		if n := r.count(nodes.Path); n < 4 || n > 5 {
			t.Errorf("%d requests in a minute", n)
		}
	})
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxPolls: 20, MaxReads: 5})
		var queries []Request
		for i := range 500 {
			q := Request{Path: fmt.Sprintf("/v1/health/service/s%d", i)}
			queries = append(queries, q)
			r.set(q.Path, oneWeb, 5)
		}
		r.Follow(queries[:15])
		r.frame(time.Second)
		r.Follow(queries) // past the limit: those that poll for a minute make room
		for got := 15; got < 500; {
			got += len(r.frame(time.Second).Results)
		}
		for _, q := range queries {
			r.set(q.Path, `[]`, 6)
		}
		for got := 0; got < 500; {
			got += len(r.frame(3 * time.Second).Results)
		}
		if r.most > 25 {
			t.Errorf("%d requests in flight, want at most 25", r.most)
		}
	})
}

func TestTooManyConnectionsLowersTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxPolls: 20})
		r.set(web.Path, oneWeb, 5)
		r.Follow([]Request{web})
		r.frame(time.Second)
		r.failing("", api.Errorf(429, "Your IP is issuing too many concurrent connections"))
		time.Sleep(time.Hour)
		r.failing("", nil)
		time.Sleep(2 * time.Minute)
		if n := r.polls.size(); n != 18 { // the poll was refused; the later ones ask
			t.Errorf("%d slots left", n)
		}
		if n := r.reads.size(); n != minLimit {
			t.Errorf("%d slots left", n)
		}
	})
}

// When refused connections leave fewer slots than requests, none waits for the end of
// another long-poll.
func TestFewerSlotsRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxPolls: 20})
		var queries []Request
		for i := range 18 {
			q := Request{Path: fmt.Sprintf("/v1/health/service/s%d", i)}
			queries = append(queries, q)
			r.set(q.Path, oneWeb, 5)
		}
		r.Follow(queries)
		r.frame(time.Second)
		for _, q := range queries[:10] {
			r.failing(q.Path, api.Errorf(429, "Your IP is issuing too many concurrent connections"))
		}
		time.Sleep(10 * time.Second)
		for _, q := range queries[:10] {
			r.failing(q.Path, nil)
		}
		time.Sleep(10 * time.Second)
		if n := r.polls.size(); n >= len(queries) {
			t.Fatalf("%d slots left", n)
		}
		for _, q := range queries {
			r.set(q.Path, `[]`, 6)
			r.frame(time.Second)
		}
	})
}

func TestMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxStale: 2 * time.Second})
		r.set(web.Path, oneWeb, 5)
		r.Follow([]Request{web})
		r.frame(time.Second)
		synctest.Wait()
		if len(r.modes) == 0 || r.modes[0] != "stale=true consistent=false" {
			t.Errorf("modes %v", r.modes)
		}
	})
}

func TestStoppedWatcher(t *testing.T) {
	w := New(Config{Client: newFake(), Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	w.Follow([]Request{web})
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrStopped) {
		t.Fatalf("Next: %v", err)
	}
}

func TestDecode(t *testing.T) {
	tests := []struct {
		query Request
		body  string
		want  string // type
	}{
		{Request{"/v1/kv/a", ""}, `[{"Key":"a"}]`, "*api.KVPair"},
		{Request{"/v1/kv/a", "recurse="}, `[{"Key":"a"}]`, "[]*api.KVPair"},
		{Request{"/v1/kv/a", "keys="}, `["a"]`, "[]string"},
		{Request{"/v1/health/service/a", ""}, `[]`, "[]*api.CheckServiceNode"},
		{Request{"/v1/health/node/a", ""}, `[]`, "[]*api.HealthCheck"},
		{Request{"/v1/health/state/any", ""}, `[]`, "[]*api.HealthCheck"},
		{Request{"/v1/catalog/services", ""}, `{}`, "map[string][]string"},
		{Request{"/v1/catalog/service/a", ""}, `[]`, "[]*api.ServiceNode"},
		{Request{"/v1/catalog/nodes", ""}, `[]`, "[]*api.Node"},
		{Request{"/v1/catalog/node/a", ""}, `null`, "*api.NodeServices"},
		{Request{"/v1/catalog/datacenters", ""}, `["dc1"]`, "[]string"},
		{Request{"/v1/agent/self", ""}, `{"Config":{}}`, "map[string]interface {}"},
	}
	for _, tt := range tests {
		got, err := Decode(tt.query, []byte(tt.body))
		if err != nil || fmt.Sprintf("%T", got) != tt.want {
			t.Errorf("%s: %T, %v; want %s", tt.query, got, err, tt.want)
		}
	}
	if _, err := Decode(web, []byte("<html>")); err == nil || !strings.Contains(err.Error(), web.String()) {
		t.Errorf("a body that is no JSON: %v", err)
	}
}
