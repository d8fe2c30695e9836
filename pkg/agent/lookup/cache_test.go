package lookup

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/forward"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
	"github.com/muster-dev/muster/pkg/agent/loopback"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// soleServer is a raft group of one that a test writes to.
type soleServer struct {
	httpapi.Cluster // what no name needs
	views           *view.Views

	mu    sync.Mutex
	store *state.Store
	index uint64
}

func (s *soleServer) Views() *view.Views                                { return s.views }
func (s *soleServer) Leads() bool                                       { return true }
func (s *soleServer) AwaitLeader(context.Context) (bool, string, error) { return true, "", nil }
func (s *soleServer) AwaitStale(context.Context) error                  { return nil }
func (s *soleServer) AwaitCommitted(context.Context) error              { return nil }
func (s *soleServer) LastContact() time.Duration                        { return 0 }
func (s *soleServer) KnownLeader() bool                                 { return true }
func (s *soleServer) WhileLeading(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (s *soleServer) apply(t *testing.T, cmd state.Command) {
	t.Helper()
	data, err := state.Encode(cmd, time.Now(), state.Level)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	results, touched := s.store.ApplyBatch([]state.Entry{{Index: s.index, Data: data}})
	if err, failed := results[0].(error); failed {
		t.Fatal(err)
	}
	s.views.Publish(s.store.Snapshot(), touched)
}

func instanceOf(node, addr, service string, port int) state.Command {
	return &state.Register{
		Node:    &api.Node{Node: node, Address: addr, Datacenter: "dc1"},
		Service: &api.NodeService{ID: service, Service: service, Port: port},
	}
}

// cacheRig is the DNS side of a client agent beside one server.
type cacheRig struct {
	*Cache
	server *soleServer
	asked  atomic.Int32 // questions that were sent on, subscriptions aside
	close  func()       // the server goes away
}

func newCacheRig(t *testing.T, rules Rules) *cacheRig {
	store := state.New()
	r := &cacheRig{server: &soleServer{store: store, views: view.New(store.Snapshot()), index: 9}}
	times := httpapi.Config{HoldTimeout: 7 * time.Second, DefaultQueryTime: time.Minute, MaxQueryTime: time.Minute, Datacenter: "dc1", Logger: logx.Discard()}
	atServer, atClient := times, times
	atServer.NodeName, atServer.Cluster = "s1", r.server
	served := httpapi.New(atServer).Internal()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != api.SubscribePath {
			r.asked.Add(1)
		}
		served.ServeHTTP(w, req)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	r.close = sync.OnceFunc(func() { s.CloseClientConnections(); s.Close() })
	router := forward.New(forward.Config{
		Transport: s.Client().Transport, Servers: func() []string { return []string{s.Listener.Addr().String()} },
		HoldTimeout: 50 * time.Millisecond, Logger: logx.Discard(),
	})
	atClient.NodeName, atClient.Forward = "c1", router
	own := httpapi.New(atClient).Own()
	var err error
	if r.Cache, err = NewCache(Config{Datacenter: "dc1", Rules: rules, API: &loopback.Transport{Handler: own}, Logger: logx.Discard()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Cache.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended // with the context's error
		r.close()
	})
	return r
}

// ports are those of a service's instances, in order of their nodes.
func (r *cacheRig) ports(t *testing.T, name string) (ports []int) {
	t.Helper()
	found, err := r.ServiceInstances(t.Context(), "dc1", name, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range found {
		ports = append(ports, i.Service.Port)
	}
	return ports
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// cached waits until a name is answered from memory.
func (r *cacheRig) cached(t *testing.T, ask func()) {
	t.Helper()
	until(t, "the answer is kept", func() bool {
		before := r.asked.Load()
		ask()
		return r.asked.Load() == before
	})
}

var lasting = Rules{AllowStale: true, MaxStale: 87600 * time.Hour}

func TestCacheAreAskedOnceAndFollowed(t *testing.T) {
	r := newCacheRig(t, lasting)
	r.server.apply(t, instanceOf("n1", "10.0.0.1", "web", 80))
	if got := r.ports(t, "web"); len(got) != 1 || got[0] != 80 || r.asked.Load() != 1 {
		t.Fatalf("the first question: %v, asked %d times", got, r.asked.Load())
	}
	r.cached(t, func() { r.ports(t, "Web") }) // names have no case
	r.cached(t, func() {
		if n, err := r.Node(t.Context(), "dc1", "n1"); err != nil || n == nil || n.Address != "10.0.0.1" {
			t.Fatalf("node %+v, %v", n, err)
		}
	})
	asked := r.asked.Load()
	r.server.apply(t, instanceOf("n2", "10.0.0.2", "web", 81))
	until(t, "the second instance is known", func() bool { return len(r.ports(t, "web")) == 2 })
	r.server.apply(t, instanceOf("n1", "10.0.0.9", "web", 80))
	until(t, "the new address is known", func() bool {
		n, err := r.Node(t.Context(), "dc1", "n1")
		return err == nil && n.Address == "10.0.0.9"
	})
	r.server.apply(t, &state.Deregister{Node: "n2"})
	until(t, "and that one is gone", func() bool { return len(r.ports(t, "web")) == 1 })
	if now := r.asked.Load(); now != asked {
		t.Errorf("%d questions were sent on for names that are followed", now-asked)
	}
	if none := r.ports(t, "nobody"); len(none) != 0 {
		t.Errorf("an unknown service has %v", none)
	}
	if _, err := r.ServiceInstances(t.Context(), "dc2", "web", nil); err == nil {
		t.Error("another datacenter is answered from this one's memory")
	}
}

// Without servers what is kept is answered as long as it may be that old, and
// nothing else.
func TestCacheWithoutServers(t *testing.T) {
	for name, tc := range map[string]struct {
		rules Rules
		keeps bool
	}{
		"old answers are allowed":     {lasting, true},
		"only for an instant":         {Rules{AllowStale: true, MaxStale: time.Nanosecond}, false},
		"no stale answers are wanted": {Rules{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newCacheRig(t, lasting)
			r.server.apply(t, instanceOf("n1", "10.0.0.1", "web", 80))
			r.ports(t, "web")
			r.cached(t, func() { r.ports(t, "web") })
			r.close()
			r.SetRules(tc.rules)
			found, err := r.ServiceInstances(t.Context(), "dc1", "web", nil)
			if tc.keeps != (err == nil && len(found) == 1) {
				t.Errorf("%+v, %v", found, err)
			}
			if _, err := r.ServiceInstances(t.Context(), "dc1", "other", nil); err == nil {
				t.Error("what is not known is answered")
			}
		})
	}
}

func TestOnlyPlainNamesAreKept(t *testing.T) {
	r := newCacheRig(t, lasting)
	for _, name := range []string{"a/b", "a?b", ".hidden", "", "a b", "ü", "a%2Fb"} {
		for range 3 {
			before := r.asked.Load()
			_, err := r.Node(t.Context(), "dc1", name)
			if name != "" && r.asked.Load() == before {
				t.Errorf("%q is answered from memory (%v)", name, err)
			}
		}
	}
	if long := strings.Repeat("a", 63) + "-1.x"; !isPlain(long) {
		t.Errorf("%s is no plain name", long)
	}
}
