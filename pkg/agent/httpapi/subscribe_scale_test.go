package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// counting is a client that takes everything and remembers nothing.
type counting struct {
	header http.Header
	mu     sync.Mutex
	bytes  int
	frames chan struct{} // one for each flush
}

func newCounting() *counting {
	return &counting{header: http.Header{}, frames: make(chan struct{}, 16)}
}

func (c *counting) Header() http.Header { return c.header }
func (c *counting) WriteHeader(int)     {}
func (c *counting) Flush()              { c.frames <- struct{}{} }

func (c *counting) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += len(p)
	return len(p), nil
}

// streams subscribes so many clients to the same keys, which exist, and returns
// when each has its first frame.
func (r *rig) streams(t testing.TB, clients, keys int) (all []*counting) {
	t.Helper()
	var sub api.Subscription
	for i := range keys {
		sub.Queries = append(sub.Queries, api.SubscribedQuery{ID: fmt.Sprint(i), Path: fmt.Sprint("/v1/kv/services/web/instances/", i)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	t.Cleanup(func() { cancel(); ended.Wait() })
	for range clients {
		body, err := json.Marshal(sub)
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, api.SubscribePath, bytes.NewReader(body))
		c := newCounting()
		ended.Go(func() { r.api.Public().ServeHTTP(c, req) })
		all = append(all, c)
	}
	for _, c := range all {
		<-c.frames
	}
	return all
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a subscribed query costs in memory does not depend on its answer, and is
// small: alone, where its view is counted with it, and among others of the same.
func TestSubscribedQueriesAreSmall(t *testing.T) {
	const keys = 1000
	for _, c := range []struct{ clients, max int }{{1, 2048}, {10, 640}} {
		r := newRig(t)
		for i := range keys {
			r.must(fmt.Sprint("PUT /v1/kv/services/web/instances/", i), "10.0.0.1:8080")
		}
		before := heap()
		all := r.streams(t, c.clients, keys)
		per := int(heap()-before) / keys / c.clients
		runtime.KeepAlive(all)
		t.Logf("%d clients with %d queries each: %d bytes for each query", c.clients, keys, per)
		if per > c.max {
			t.Errorf("%d clients with %d queries each: %d bytes for each query, at most %d are wanted", c.clients, keys, per, c.max)
		}
	}
}

// A client whose set grows and shrinks by the thousand subscribes anew with what
// it has, and gets what it lacks.
func TestSubscriptionGrowsAndShrinks(t *testing.T) {
	const keys = 3000
	r := newRig(t)
	for i := range keys {
		r.must(fmt.Sprint("PUT /v1/kv/k/", i), fmt.Sprint(i))
	}
	hashes, index := map[string]string{}, uint64(0)
	changed := map[string]bool{}
	for _, span := range [][2]int{{0, 1}, {0, keys}, {1000, 1010}, {500, 2500}, {0, keys}} {
		sub := api.Subscription{Index: index}
		want := 0
		for i := span[0]; i < span[1]; i++ {
			id := fmt.Sprint(i)
			sub.Queries = append(sub.Queries, api.SubscribedQuery{ID: id, Path: "/v1/kv/k/" + id, Hash: hashes[id]})
			if hashes[id] == "" || changed[id] {
				want++
				delete(changed, id)
			}
		}
		s := r.subscribe(t, sub)
		f := s.next()
		if len(f.Results) != want || f.Index < index {
			t.Errorf("%d to %d: %d results at %d, want %d", span[0], span[1], len(f.Results), f.Index, want)
		}
		index = f.Index
		for _, res := range f.Results {
			hashes[res.ID] = res.Hash
		}
		s.cancel()
		for i := 0; i < keys; i += 97 {
			r.must(fmt.Sprint("PUT /v1/kv/k/", i), fmt.Sprint("at ", index))
			changed[fmt.Sprint(i)] = true
		}
	}
	views := r.cluster.views
	for wait := 0; views.Waiting() > 0; wait++ {
		if wait > 5000 {
			t.Fatalf("%d queries are waited for, and nobody is there", views.Waiting())
		}
		_, _ = views.Read(t.Context(), "", func(*state.Snapshot) view.Answer { return view.Answer{} }, 1, time.Millisecond)
	}
}

// A change among many thousand followed queries costs what it changes.
func BenchmarkSubscribedChange(b *testing.B) {
	for _, c := range []struct{ clients, keys int }{{1, 1}, {1, 5000}, {100, 5000}, {1000, 1}} {
		b.Run(fmt.Sprintf("clients=%d,queries=%d", c.clients, c.keys), func(b *testing.B) {
			r := newRig(b)
			all := r.streams(b, c.clients, c.keys)
			for i := 0; b.Loop(); i++ {
				r.must("PUT /v1/kv/services/web/instances/0", fmt.Sprint(i))
				for _, c := range all {
					<-c.frames
				}
			}
		})
	}
}
