package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// upstream sends requests on to a server in the same process.
type upstream struct {
	server *API
	asked  atomic.Int32
	open   atomic.Int32
}

func (u *upstream) ToServer(w http.ResponseWriter, r *http.Request, safe bool, forwards int) error {
	u.asked.Add(1)
	u.open.Add(1)
	defer u.open.Add(-1)
	r = r.Clone(r.Context())
	r.Header.Set(api.HeaderForwards, strconv.Itoa(forwards))
	u.server.Internal().ServeHTTP(w, r)
	return r.Context().Err()
}

func (u *upstream) ToLeader(http.ResponseWriter, *http.Request, bool, string) error {
	panic("a client agent does not ask the leader")
}

// clientAgent is the API of a client agent in front of the rig's server.
func (r *rig) clientAgent(t *testing.T) (*rig, *upstream) {
	u := &upstream{server: r.api}
	return newRig(t, func(c *Config) { c.Cluster, c.Forward = nil, u }), u
}

// polls asks the same so many times, and waits until all wait.
func (r *rig) polls(t *testing.T, n int, targets ...string) (answers chan *httptest.ResponseRecorder) {
	answers = make(chan *httptest.ResponseRecorder, n*len(targets))
	for range n {
		for _, target := range targets {
			go func() { answers <- r.do("GET "+target, "") }()
		}
	}
	synctest.Wait()
	if len(answers) > 0 {
		t.Fatalf("%s returned at once: %s", targets, (<-answers).Body)
	}
	return answers
}

// Many who wait for one thing at a client agent cost the servers one request, and
// get what they would have got without.
func TestBlockingReadsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newRig(t)
		server.must("PUT /v1/kv/a", "1")
		client, up := server.clientAgent(t)
		const target = "/v1/kv/a?index=1&wait="
		answers := client.polls(t, 10, target+"30s", target+"40s")
		if n := up.asked.Load(); n != 1 {
			t.Errorf("%d requests for 20 equal reads", n)
		}
		server.must("PUT /v1/kv/a", "2")
		direct := server.do("GET "+target+"30s", "")
		for range 20 {
			got := <-answers
			if got.Code != 200 || got.Body.String() != direct.Body.String() || got.Header().Get(api.HeaderIndex) != direct.Header().Get(api.HeaderIndex) {
				t.Fatalf("got %d %v %s, want %v %s", got.Code, got.Header(), got.Body, direct.Header(), direct.Body)
			}
		}
		// The 19 that came after the first request had begun shared another.
		if up.asked.Load() != 2 || len(client.api.sharedReads.byKey) != 0 {
			t.Errorf("%d requests, %d requests are left", up.asked.Load(), len(client.api.sharedReads.byKey))
		}
	})
}

// slowWay holds answers up on their way back from the server.
type slowWay struct {
	*upstream
	hold atomic.Pointer[chan struct{}]
}

func (u *slowWay) ToServer(w http.ResponseWriter, r *http.Request, safe bool, forwards int) error {
	got := httptest.NewRecorder()
	err := u.upstream.ToServer(got, r, safe, forwards)
	if hold := u.hold.Load(); hold != nil {
		<-*hold
	}
	for name, values := range got.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(got.Code)
	_, _ = w.Write(got.Body.Bytes())
	return err
}

// Who joins a request whose answer is on its way already sees what was written
// before it asked all the same.
func TestLateReadersSeeWhatWasWrittenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newRig(t)
		server.must("PUT /v1/kv/a", "1")
		up := &slowWay{upstream: &upstream{server: server.api}}
		client := newRig(t, func(c *Config) { c.Cluster, c.Forward = nil, up })
		hold := make(chan struct{})
		up.hold.Store(&hold)
		first := client.polls(t, 1, "/v1/kv/a?index=1&raw")
		server.must("PUT /v1/kv/a", "2")
		synctest.Wait() // the answer "2" is on its way
		server.must("PUT /v1/kv/a", "3")
		late := client.polls(t, 3, "/v1/kv/a?index=1&raw")
		stale := client.polls(t, 1, "/v1/kv/a?index=1&raw&stale")
		up.hold.Store(nil)
		close(hold)
		if got := (<-first).Body.String(); got != "2" {
			t.Errorf("the first reader got %q", got)
		}
		for range 3 {
			if got := (<-late).Body.String(); got != "3" {
				t.Errorf("a late reader got %q, though 3 was written before it asked", got)
			}
		}
		<-stale
		if n := up.asked.Load(); n != 3 {
			t.Errorf("%d requests, want one of the first, one of the late ones and one of the stale", n)
		}
	})
}

func TestOnlyEqualReadsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newRig(t)
		server.must("PUT /v1/kv/a", "1")
		client, up := server.clientAgent(t)
		different := []string{
			"/v1/kv/a?index=1", "/v1/kv/a?index=2", "/v1/kv/a?index=1&stale", "/v1/kv/a?index=1&raw", "/v1/kv/b?index=1", "/v1/kv/a%3Findex=1?index=1",
			"/v1/kv/a?index=1&consistent", "/v1/kv/a?index=1&consistent", // these not even if they are equal
		}
		answers := client.polls(t, 1, different...)
		if n := up.asked.Load(); int(n) != len(different) {
			t.Errorf("%d requests for %d reads", n, len(different))
		}
		server.must("PUT /v1/kv/a", "2")
		server.must("PUT /v1/kv/a", "3")
		server.must("PUT /v1/kv/b", "3")
		server.must("PUT /v1/kv/a%3Findex=1", "3")
		for range different {
			<-answers
		}
	})
}

// Each reader keeps its own time, also beyond what a server lets a request wait.
func TestCoalescedReadersKeepTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newRig(t, func(c *Config) { c.MaxQueryTime = 30 * time.Second })
		server.must("PUT /v1/kv/a", "1")
		client, up := server.clientAgent(t)
		began := time.Now()
		var readers sync.WaitGroup
		for _, wait := range []time.Duration{time.Second, 20 * time.Second, 100 * time.Second} {
			readers.Go(func() {
				w := client.do(fmt.Sprintf("GET /v1/kv/a?index=1&wait=%v", wait), "")
				took := time.Since(began)
				if w.Code != 200 || w.Header().Get(api.HeaderIndex) != "1" || took < wait || took > wait+wait/16 {
					t.Errorf("asked to wait %v, took %v: %d, index %s", wait, took, w.Code, w.Header().Get(api.HeaderIndex))
				}
			})
		}
		readers.Wait()
		if up.open.Load() != 0 {
			t.Error("a request to the server goes on")
		}
	})
}

// When the last reader hangs up, so does the request.
func TestFlightEndsWithItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newRig(t)
		server.must("PUT /v1/kv/a", "1")
		client, up := server.clientAgent(t)
		var hangUp []context.CancelFunc
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			hangUp = append(hangUp, cancel)
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/kv/a?index=1", nil)
			go client.api.Public().ServeHTTP(httptest.NewRecorder(), req)
		}
		for left := 3; left > 0; left-- {
			synctest.Wait()
			if up.open.Load() != 1 {
				t.Fatalf("%d requests are open for %d readers", up.open.Load(), left)
			}
			hangUp[left-1]()
		}
		synctest.Wait()
		if up.open.Load() != 0 || len(client.api.sharedReads.byKey) != 0 {
			t.Errorf("%d requests are open for nobody", up.open.Load())
		}
	})
}

// An answer that is too long to be kept is no worse for its readers.
func TestLongAnswersAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newRig(t)
		for i := range 16 {
			server.must(fmt.Sprint("PUT /v1/kv/big/", i), strings.Repeat("x", 500<<10))
		}
		client, up := server.clientAgent(t)
		answers := client.polls(t, 2, "/v1/kv/big/?recurse&index=16")
		server.must("PUT /v1/kv/big/0", "2")
		for range 2 {
			if got := <-answers; got.Code != 200 || got.Body.Len() < maxSharedBody {
				t.Errorf("got %d and %d bytes", got.Code, got.Body.Len())
			}
		}
		if n := up.asked.Load(); n != 3 {
			t.Errorf("%d requests, want one that is shared and one of each reader", n)
		}
	})
}
