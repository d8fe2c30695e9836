package httpapi

import (
	"context"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// blocked is a request that runs beside the test, within a synctest bubble.
type blocked chan *httptest.ResponseRecorder

func (r *rig) block(ctx context.Context, target string) blocked {
	done := make(blocked, 1)
	go func() { done <- r.send(ctx, r.api.Public(), target, "") }()
	synctest.Wait() // it has read, and waits
	return done
}

func (b blocked) answered() *httptest.ResponseRecorder {
	synctest.Wait()
	select {
	case w := <-b:
		return w
	default:
		return nil
	}
}

func indexOf(w *httptest.ResponseRecorder) uint64 {
	n, _ := strconv.ParseUint(w.Header().Get(api.HeaderIndex), 10, 64)
	return n
}

// Each read wakes on the change that it shows, and on none of the others.
func TestBlockingReadsWakeExactly(t *testing.T) {
	const register, kv = "PUT /v1/catalog/register", "PUT /v1/kv/"
	other := []struct{ target, body string }{
		{kv + "other", "x"},
		{register, `{"Node":"z","Address":"10.0.0.9","Service":{"Service":"unrelated"},"Check":{"Name":"zc"}}`},
		{"PUT /v1/catalog/deregister", `{"Node":"z"}`},
	}
	for _, c := range []struct{ read, target, body string }{
		{"/v1/kv/a", kv + "a", "new"},
		{"/v1/kv/missing", kv + "missing", "new"},
		{"/v1/kv/p/?recurse", kv + "p/q", "new"},
		{"/v1/kv/p/?keys", kv + "p/q", "new"},
		{"/v1/health/service/web?passing", register, `{"Node":"b","SkipNodeUpdate":true,"Check":{"CheckID":"web2-check","Name":"w","ServiceID":"web2","Status":"passing"}}`},
		{"/v1/health/service/web?filter=Service.Port==81", register, `{"Node":"b","SkipNodeUpdate":true,"Service":{"ID":"web2","Service":"web","Port":81,"Tags":["new"]}}`},
		{"/v1/health/service/absent", register, `{"Node":"a","SkipNodeUpdate":true,"Service":{"Service":"absent"}}`},
		{"/v1/catalog/service/web", register, `{"Node":"b","SkipNodeUpdate":true,"Service":{"ID":"web2","Service":"web","Port":99}}`},
		{"/v1/catalog/node/a", register, `{"Node":"a","SkipNodeUpdate":true,"Service":{"Service":"more"}}`},
		{"/v1/health/node/a", register, `{"Node":"a","SkipNodeUpdate":true,"Check":{"Name":"alive","Status":"warning"}}`},
		{"/v1/health/checks/web", register, `{"Node":"b","SkipNodeUpdate":true,"Check":{"CheckID":"web3-check","Name":"w","ServiceID":"web3","Status":"passing"}}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.seed()
			r.must("PUT /v1/kv/a", "old")
			index := indexOf(r.do("GET "+c.read, ""))
			sep := "?"
			if strings.Contains(c.read, "?") {
				sep = "&"
			}
			b := r.block(context.Background(), "GET "+c.read+sep+"index="+strconv.FormatUint(index, 10))
			for _, o := range other {
				r.must(o.target, o.body)
				if w := b.answered(); w != nil {
					t.Fatalf("%s woke because of %s %s: %d %s", c.read, o.target, o.body, w.Code, w.Body)
				}
			}
			r.must(c.target, c.body)
			w := b.answered()
			if w == nil {
				t.Fatalf("%s did not wake because of %s %s", c.read, c.target, c.body)
			}
			if indexOf(w) <= index {
				t.Errorf("%s: index %d after %d", c.read, indexOf(w), index)
			}
		})
	}
}

// A change that the filter hides wakes nobody.
func TestFilteredChangesDoNotWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.seed()
		index := indexOf(r.do("GET /v1/health/service/web?filter=Service.Port==80", ""))
		b := r.block(context.Background(), "GET /v1/health/service/web?filter=Service.Port==80&wait=1m&index="+strconv.FormatUint(index, 10))
		r.must("PUT /v1/catalog/register", `{"Node":"b","SkipNodeUpdate":true,"Service":{"ID":"web2","Service":"web","Port":99}}`)
		if w := b.answered(); w != nil {
			t.Fatalf("woke: %s", w.Body)
		}
		time.Sleep(2 * time.Minute)
		if w := b.answered(); w == nil || w.Code != 200 || indexOf(w) <= index {
			t.Fatalf("after the wait: %v", w)
		}
	})
}

func TestBlockingReadTimesOut(t *testing.T) {
	for query, limits := range map[string][2]time.Duration{
		"&wait=10s": {10 * time.Second, 11 * time.Second},
		"":          {5 * time.Minute, 319 * time.Second},
		"&wait=0s":  {5 * time.Minute, 319 * time.Second},
		"&wait=-1s": {5 * time.Minute, 319 * time.Second},
		"&wait=5h":  {10 * time.Minute, 638 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.must("PUT /v1/kv/a", "v")
			r.must("PUT /v1/kv/b", "v")
			began := time.Now()
			w := r.do("GET /v1/kv/a?index=1"+query, "")
			if took := time.Since(began); took < limits[0] || took > limits[1] {
				t.Errorf("%q took %v", query, took)
			}
			if w.Code != 200 || indexOf(w) != 1 || !strings.Contains(w.Body.String(), `"Key":"a"`) {
				t.Errorf("%q: %d index %d %s", query, w.Code, indexOf(w), w.Body)
			}
		})
	}
}

func TestBlockingReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, hangUp := context.WithCancel(context.Background())
		b := r.block(ctx, "GET /v1/kv/a?index=1")
		if b.answered() != nil {
			t.Fatal("did not block")
		}
		hangUp()
		if b.answered() == nil || r.cluster.views.Waiting() != 0 {
			t.Error("a client that hung up is still waited for")
		}
		stop, cancel := context.WithCancelCause(context.Background())
		b = r.block(stop, "GET /v1/catalog/nodes?index=1")
		synctest.Wait()
		cancel(ErrStopping)
		if w := b.answered(); w == nil || w.Code != 200 || w.Body.String() != "[]" {
			t.Errorf("at shutdown a blocked read was not answered: %v", w)
		}
	})
}

// A reader that waited at a leader which lost its office is sent to the next,
// for the time that is left.
func TestBlockedReadFollowsTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		b := r.block(context.Background(), "GET /v1/kv/a?index=1&wait=10s")
		synctest.Wait()
		time.Sleep(4 * time.Second)
		r.must("PUT /v1/kv/b", "x")
		r.must("PUT /v1/kv/b", "y")
		synctest.Wait()
		if b.answered() != nil {
			t.Fatal("woke without a change")
		}
		r.cluster.depose("l:2")
		time.Sleep(time.Second)
		w := b.answered()
		if w == nil || w.Body.String() != "from leader l:2 forwards 0" {
			t.Fatalf("answered %v", w)
		}
		if len(r.forward.calls) != 1 || !strings.Contains(r.forward.calls[0], "index=1") || !strings.Contains(r.forward.calls[0], "wait=6") {
			t.Errorf("sent on as %v: it has 6 s left", r.forward.calls)
		}
	})
}
