package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer is the other side: HTTP/2 over TLS, as on a server's port.
func newServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func newRouter(t *testing.T, hold time.Duration, servers ...string) *Router {
	t.Helper()
	// Trusting the test servers' certificates: they all share one.
	some := newServer(t, func(http.ResponseWriter, *http.Request) {})
	transport := some.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return New(Config{
		Transport:   transport,
		Servers:     func() []string { return servers },
		HoldTimeout: hold,
		Logger:      logx.Discard(),
	})
}

func addr(s *httptest.Server) string { return s.Listener.Addr().String() }

// newRequest makes a request as the caller of a Router has it.
func newRequest(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
	return r
}

// deadAddr is an address at which nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set(api.HeaderIndex, "7")
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprintf(w, "%s %s to=%s forwards=%s hops=%s token=%s body=%s", r.Method, r.URL.RequestURI(),
		r.Header.Get(api.HeaderTarget), r.Header.Get(api.HeaderForwards), r.Header.Get(api.HeaderHops), r.Header.Get(api.HeaderToken), body)
}

func TestToServerCarriesRequestAndAnswer(t *testing.T) {
	s := newServer(t, echo)
	f := newRouter(t, time.Second, deadAddr(t), addr(s))

	r := newRequest("PUT", "/v1/kv/a%2Fb?flags=3", "value")
	r.Header.Set(api.HeaderToken, "secret")
	r.Header.Set(api.HeaderTarget, api.TargetLeader) // what a client says of that is not passed on
	r.Header.Set(api.HeaderHops, "7")
	w := httptest.NewRecorder()
	if err := f.ToServer(w, r, false, 1); err != nil {
		t.Fatal(err)
	}
	want := "PUT /v1/kv/a%2Fb?flags=3 to=server forwards=1 hops= token=secret body=value"
	if w.Code != http.StatusTeapot || w.Body.String() != want || w.Header().Get(api.HeaderIndex) != "7" {
		t.Fatalf("got %d %q %v, want 418 %q", w.Code, w.Body, w.Header(), want)
	}
	if order, _ := f.candidates(); order[0] != addr(s) {
		t.Error("the server that answered is not asked first next time")
	}
}

func TestToServerWithoutServers(t *testing.T) {
	for name, servers := range map[string][]string{"none known": nil, "none reached": {deadAddr(t)}} {
		t.Run(name, func(t *testing.T) {
			f := newRouter(t, 50*time.Millisecond, servers...)
			w := httptest.NewRecorder()
			err := f.ToServer(w, httptest.NewRequest("GET", "/v1/kv/a", nil), true, 1)
			var status *api.StatusError
			if !errors.As(err, &status) || status.Code != 500 || !errors.Is(err, api.ErrNoServers) || !strings.HasPrefix(err.Error(), api.TextNoServers) {
				t.Fatalf("error %v, want 500 %s", err, api.ErrNoServers)
			}
		})
	}
}

// breakAfterReading ends the connection once the request has arrived.
func breakAfterReading(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestBrokenConnection(t *testing.T) {
	var met atomic.Int32
	broken := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		met.Add(1)
		breakAfterReading(w, r)
	})
	good := newServer(t, echo)

	t.Run("a write's outcome is unknown", func(t *testing.T) {
		unknown := func(err error) bool {
			return errors.Is(err, api.ErrUnknownWrite) && strings.HasPrefix(err.Error(), api.TextUnknownWrite)
		}
		write := func() *http.Request { return newRequest("PUT", "/v1/kv/a", "x") }
		f := newRouter(t, time.Second)
		if err := f.ToLeader(httptest.NewRecorder(), write(), false, addr(broken)); !unknown(err) {
			t.Errorf("to the leader: error %v, want %s", err, api.ErrUnknownWrite)
		}
		for range 20 { // whichever is asked first
			before := met.Load()
			f := newRouter(t, time.Second, addr(broken), addr(good))
			err := f.ToServer(httptest.NewRecorder(), write(), false, 1)
			if broke := met.Load() > before; unknown(err) != broke || err != nil != broke {
				t.Errorf("error %v, the connection broke: %v", err, broke)
			}
		}
	})
	t.Run("a read is asked elsewhere", func(t *testing.T) {
		f := newRouter(t, time.Second, addr(broken), addr(good))
		w := httptest.NewRecorder()
		if err := f.ToServer(w, httptest.NewRequest("GET", "/v1/kv/a", nil), true, 1); err != nil || w.Code != http.StatusTeapot {
			t.Fatalf("error %v, status %d", err, w.Code)
		}
	})
}

// A request that may be sent again is sent whole again, wherever it goes.
func TestBodyIsSentWholeAgain(t *testing.T) {
	reads := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		panic(http.ErrAbortHandler)
	})
	good := newServer(t, echo)
	for range 20 { // whichever is asked first
		f := newRouter(t, time.Second, addr(reads), deadAddr(t), addr(good))
		r := newRequest("POST", api.SubscribePath, "queries")
		w := httptest.NewRecorder()
		if err := f.ToServer(w, r, true, 1); err != nil || !strings.HasSuffix(w.Body.String(), "body=queries") {
			t.Fatalf("got %q, %v", w.Body, err)
		}
	}
	// To the leader, too: who sends it there again has the same request.
	f := newRouter(t, time.Second)
	r := newRequest("POST", api.SubscribePath, "queries")
	for to, want := range map[string]error{addr(reads): api.ErrNoLeader, deadAddr(t): api.ErrNoLeader} {
		if err := f.ToLeader(httptest.NewRecorder(), r, true, to); !errors.Is(err, want) {
			t.Errorf("%v", err)
		}
	}
	r.Header.Set(api.HeaderForwards, "7")
	w := httptest.NewRecorder()
	if err := f.ToLeader(w, r, true, addr(good)); err != nil || !strings.HasSuffix(w.Body.String(), "to=leader forwards= hops=2 token= body=queries") {
		t.Errorf("got %q, %v", w.Body, err)
	}
}

// first is whom a router asks next.
func first(f *Router) string {
	order, known := f.candidates()
	f.answered(order[0], order, known)
	return order[0]
}

// The agents of a cluster spread over its servers, stay with theirs, and only as
// many move as a server that comes or goes makes necessary.
func TestFiftyClientsSpread(t *testing.T) {
	servers := []string{"10.0.0.1:8300", "10.0.0.2:8300", "10.0.0.3:8300"}
	var clients []*Router
	for range 50 {
		clients = append(clients, New(Config{Servers: func() []string { return servers }, Logger: logx.Discard()}))
	}
	spread := func() (per map[string]int, each []string) {
		per = map[string]int{}
		for _, f := range clients {
			each = append(each, first(f))
			per[each[len(each)-1]]++
		}
		return per, each
	}
	moved := func(a, b []string) (n int, to map[string]int) {
		to = map[string]int{}
		for i := range a {
			if a[i] != b[i] {
				n++
				to[b[i]]++
			}
		}
		return n, to
	}
	// Out of 50, fewer than 3 at one of three servers is a matter of 1 in 500,000.
	per, before := spread()
	for _, s := range servers {
		if per[s] < 3 {
			t.Errorf("%d of 50 clients are at %s: %v", per[s], s, per)
		}
	}
	if _, again := spread(); !slices.Equal(before, again) {
		t.Error("clients move for nothing")
	}
	servers = append([]string{"10.0.0.0:8300"}, servers...) // first in gossip's order
	_, after := spread()
	if n, to := moved(before, after); n == 0 || n > 30 || to["10.0.0.0:8300"] != n {
		t.Errorf("when a server came, %d clients moved, to %v", n, to)
	}
	servers = servers[1:]
	if _, back := spread(); !slices.Equal(before, back) {
		t.Error("when it went, not only its clients moved, or not back")
	}
	// Who answered instead of one that was silent is kept until the servers change.
	f := clients[0]
	order, known := f.candidates()
	f.answered(order[2], order, known)
	if got := first(f); got != order[2] {
		t.Errorf("asks %s, not who answered", got)
	}
	servers = append(slices.Clone(servers), "10.0.0.9:8300")
	fresh := &Router{cfg: f.cfg, seed: f.seed}
	if got, want := first(f), first(fresh); got != want {
		t.Errorf("after a change it asks %s, want the first of its order, %s", got, want)
	}
}

func TestToLeaderSaysWhenNothingWasDone(t *testing.T) {
	refuses := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, api.TextNoLeader)
	})
	f := newRouter(t, time.Second)
	for name, to := range map[string]string{"refused": addr(refuses), "unreachable": deadAddr(t)} {
		err := f.ToLeader(httptest.NewRecorder(), newRequest("PUT", "/v1/kv/a", "x"), false, to)
		if !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("%s: error %v, want %v", name, err, api.ErrNoLeader)
		}
	}
}

// A connection that breaks in the middle of such a refusal leaves a write unknown; a
// safe request may be sent again.
func TestBrokenRefusal(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(api.TextNoLeader)))
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, api.TextNoLeader[:5])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	f := newRouter(t, time.Second)
	for safe, want := range map[bool]error{true: api.ErrNoLeader, false: api.ErrUnknownWrite} {
		if err := f.ToLeader(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/kv/a", nil), safe, addr(s)); !errors.Is(err, want) {
			t.Errorf("safe %v: %v, want %v", safe, err, want)
		}
	}
}

func TestOtherErrorsPassThrough(t *testing.T) {
	text := "seventeen letters" // as long as the text that is looked for
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text[:16], 500) })
	f := newRouter(t, time.Second)
	w := httptest.NewRecorder()
	if err := f.ToLeader(w, httptest.NewRequest("GET", "/v1/kv/a", nil), true, addr(s)); err != nil {
		t.Fatal(err)
	}
	if w.Code != 500 || w.Body.String() != text[:16]+"\n" {
		t.Fatalf("got %d %q", w.Code, w.Body)
	}
}

func TestCancellationReachesTheOtherEnd(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(ended)
	})
	f := newRouter(t, time.Minute, addr(s))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- f.ToServer(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/kv/a?index=1", nil).WithContext(ctx), true, 1)
	}()
	<-arrived
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the caller's", err)
	}
	<-ended
}
