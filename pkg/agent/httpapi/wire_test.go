package httpapi

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/forward"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// serverPort serves an API to other agents, as the server port does.
func serverPort(t *testing.T, a *API) *httptest.Server {
	srv := httptest.NewUnstartedServer(a.Internal())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func addrOf(srv *httptest.Server) string { return srv.Listener.Addr().String() }

func routerTo(t *testing.T, srv *httptest.Server) *forward.Router {
	transport := srv.Client().Transport
	t.Cleanup(srv.Client().CloseIdleConnections)
	return forward.New(forward.Config{
		Transport: transport, HoldTimeout: time.Second, Logger: logx.Discard(),
		Servers: func() []string { return []string{addrOf(srv)} },
	})
}

// A request travels agent -> server -> leader over real connections, and the
// answer comes back as it was.
func TestAgentToServerToLeader(t *testing.T) {
	lead := newRig(t)
	leadPort := serverPort(t, lead.api)
	follower := newRig(t, func(c *Config) { c.Forward = routerTo(t, leadPort) })
	follower.cluster.set(follow(addrOf(leadPort)))
	followerPort := serverPort(t, follower.api)
	agent := newRig(t, func(c *Config) { c.Cluster, c.Forward = nil, routerTo(t, followerPort) })

	value := strings.Repeat("v", 100_000)
	agent.check(t, []want{
		{"PUT /v1/kv/a%20b?flags=7", value, 200, "true"},
		{"GET /v1/kv/a%20b?raw", "", 200, value},
		{"GET /v1/kv/none", "", 404, ""},
		{"GET /v1/kv/a?index=x", "", 400, "Invalid index"},
		{"PUT /v1/catalog/register", `{"Node":"a","Address":"10.0.0.1"}`, 200, "true"},
		{"GET /v1/catalog/nodes?filter=Zode==a", "", 500, `~Selector "Zode" is not valid`},
		{"PUT /v1/kv/big", strings.Repeat("v", api.MaxKVValueSize+1), 413, "~too large"},
		{"DELETE /v1/kv/?recurse", "", 200, "true"},
	})
	w := agent.do("GET /v1/catalog/nodes", "")
	if w.Header().Get(api.HeaderIndex) != "2" || w.Header().Get(api.HeaderKnownLeader) != "true" || w.Header().Get(api.HeaderConsistency) != "leader" {
		t.Errorf("headers were lost on the way: %v", w.Header())
	}
	if len(w.Header().Values(api.HeaderDefaultACL)) != 1 || len(w.Header().Values("Vary")) != 1 {
		t.Errorf("headers came twice: %v", w.Header())
	}
	// The leader steps down: nobody sends the request on for ever.
	lead.cluster.set(follow("10.0.0.9:1"))
	if w := agent.do("PUT /v1/kv/a", "v"); w.Code != 500 || w.Body.String() != api.TextNoLeader {
		t.Errorf("without a leader: %d %q", w.Code, w.Body)
	}
	if len(lead.forward.calls) != 0 {
		t.Errorf("a server addressed as the leader sent on %q", lead.forward.calls)
	}
}

// pipeListener hands out one connection.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, errors.New("listener closed")
	}
	return conn, nil
}

func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// serveOne serves an API on one connection in memory, and gives the client's end.
func serveOne(a *API) (client net.Conn, stop func()) {
	server, client := net.Pipe()
	ln := pipeListener{make(chan net.Conn, 1)}
	ln.conns <- server
	srv := &http.Server{Handler: a.Public()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	return client, func() {
		close(ln.conns)
		_ = srv.Close()
		_ = client.Close()
		<-done
	}
}

// A client that stops in the middle of its body, or of a large answer, is let go.
func TestStalledClientsAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		client, stop := serveOne(r.api)
		defer stop()
		_, _ = io.WriteString(client, "PUT /v1/kv/a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
		synctest.Wait()
		time.Sleep(bodyTimeout + time.Second)
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || resp.StatusCode != 400 || !resp.Close {
			t.Errorf("half a body: %v, %v", resp, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.must("PUT /v1/kv/a", strings.Repeat("x", 200<<10))
		client, stop := serveOne(r.api)
		defer stop()
		_, _ = io.WriteString(client, "GET /v1/kv/a?raw HTTP/1.1\r\nHost: h\r\n\r\n")
		synctest.Wait()
		time.Sleep(time.Hour)
		got, err := io.ReadAll(client)
		if err != nil || len(got) > 100<<10 {
			t.Errorf("a client that stalled for an hour still got %d bytes, %v", len(got), err)
		}
	})
}

// A deadline ends with what it was set for: neither the rest of the same request
// nor the next one on the connection is cut by it.
func TestDeadlinesEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.api.table = newTable(append(routes(), row("PUT", "/v1/slow", here, plain, anybody, func(_ *API, rq *request) (any, error) {
			time.Sleep(time.Hour)
			return nil, rq.ctx.Err()
		})))
		client, stop := serveOne(r.api)
		defer stop()
		in := bufio.NewReader(client)
		for _, req := range []string{
			"PUT /v1/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
			"PUT /v1/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
			"PUT /v1/kv/a HTTP/1.1\r\nHost: h\r\nContent-Length: 204800\r\n\r\n" + strings.Repeat("x", 200<<10),
			"GET /v1/kv/a?raw HTTP/1.1\r\nHost: h\r\n\r\n",
			"GET /v1/kv/?keys HTTP/1.1\r\nHost: h\r\n\r\n",
		} {
			_, _ = io.WriteString(client, req)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%.30s: %v", req, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
				t.Errorf("%.30s: %d %v", req, resp.StatusCode, err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// Every answer says how long it is, over HTTP/1.1 and HTTP/2, whoever counts.
func TestAnswersSayTheirLength(t *testing.T) {
	r := newRig(t)
	h1 := httptest.NewServer(r.api.Public())
	t.Cleanup(h1.Close)
	h2 := serverPort(t, r.api)
	r.must("PUT /v1/kv/empty", "")
	r.must("PUT /v1/kv/one", "x")
	r.must("PUT /v1/kv/many", strings.Repeat("x", 100_000))
	for _, srv := range []*httptest.Server{h1, h2} {
		for key, want := range map[string]int64{"empty": 0, "one": 1, "many": 100_000, "none": 0} {
			req, err := http.NewRequest(http.MethodGet, srv.URL+"/v1/kv/"+key+"?raw", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "identity")
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.ContentLength != want || int64(len(body)) != want {
				t.Errorf("%s, %s: %d bytes announced, %d came, want %d; %v", resp.Proto, key, resp.ContentLength, len(body), want, err)
			}
		}
		srv.Client().CloseIdleConnections()
	}
}
