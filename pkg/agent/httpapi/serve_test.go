package httpapi

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

func TestPathsAndMethods(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET /v1/nope", "", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
		{"DELETE /v1/nope", "", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
		{"GET /nope", "", 404, "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"},
		{"GET /v1/catalog/nodes/", "", 404, "~not a recognized"},
		{"GET /v1/session/frob", "", 404, "~not a recognized"},
		{"GET /", "", 200, "~UI disabled"},
		{"PATCH /v1/kv/a", "", 405, "method PATCH not allowed"},
		{"HEAD /v1/kv/a", "", 405, "~"},
		{"GET /v1/agent/service/register", "", 405, "method GET not allowed"},
		{"GET /v1/kv/a\x01b", "", 400, ""},
		{"GET /v1/kv/a?x=%zz", "", 500, ""},
		{"GET /v1/kv/a?x=1;y=2", "", 500, ""},
	})
	for target, location := range map[string]string{
		"GET /v1/kv":                        "/v1/kv/",
		"PUT /v1/kv//a?x=1":                 "/v1/kv/a?x=1",
		"GET /v1/kv/a/../b":                 "/v1/kv/b",
		"DELETE /v1/kv/a/./b/":              "/v1/kv/a/b/",
		"GET /v1/kv/.":                      "/v1/kv/",
		"GET /v1/catalog/service":           "/v1/catalog/service/",
		"PUT /v1/agent/service/maintenance": "/v1/agent/service/maintenance/",
		"GET //evil.example/":               "/evil.example/",
	} {
		w := r.do(target, "")
		if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != location {
			t.Errorf("%s: %d to %q, want 301 to %q", target, w.Code, w.Header().Get("Location"), location)
		}
	}
}

func TestAllowAndPolicyHeaders(t *testing.T) {
	r := newRig(t)
	w := r.do("OPTIONS /v1/kv/a", "")
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Allow") != "OPTIONS,GET,PUT,DELETE" {
		t.Errorf("OPTIONS: %d %q Allow %q", w.Code, w.Body, w.Header().Get("Allow"))
	}
	w = r.do("POST /v1/status/leader", "")
	if w.Header().Get("Allow") != "OPTIONS,GET" || w.Header().Get(api.HeaderDefaultACL) != "allow" {
		t.Errorf("405 has headers %v", w.Header())
	}
	if ct := w.Header().Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("405 is %q", ct)
	}
	if w = r.do("GET /v1/nope", ""); w.Header().Get(api.HeaderDefaultACL) != "" {
		t.Error("an unknown path has a default ACL policy")
	}
}

// Every route of the table answers its methods with something else than 404 and
// 405, and refuses any other.
func TestEveryRouteAnswers(t *testing.T) {
	r := newRig(t)
	for _, rt := range routes() {
		if !rt.served(origin{public: true}) {
			continue // not on this port; see TestInsideRoutes and TestBusMessages
		}
		for _, method := range strings.Split(rt.methods, ",") {
			path := rt.path
			if strings.HasSuffix(path, "/") {
				path += "x"
			}
			w := r.do(method+" "+path, "")
			if w.Code == 405 || strings.Contains(w.Body.String(), "not a recognized") {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
		if w := r.do("TRACE "+rt.path, ""); w.Code != 405 {
			t.Errorf("TRACE %s: %d", rt.path, w.Code)
		}
	}
}

func TestPretty(t *testing.T) {
	r := newRig(t)
	if got := r.must("GET /v1/status/peers?pretty", ""); got != "[\n    \"10.0.0.1:8300\"\n]\n" {
		t.Errorf("pretty: %q", got)
	}
	if got := r.must("GET /v1/status/peers", ""); got != `["10.0.0.1:8300"]` {
		t.Errorf("plain: %q", got)
	}
	dev := newRig(t, func(c *Config) { c.AlwaysPretty = true })
	if got := dev.must("GET /v1/status/peers", ""); got != "[\n    \"10.0.0.1:8300\"\n]" {
		t.Errorf("dev: %q", got)
	}
}

func TestCompression(t *testing.T) {
	r := newRig(t)
	value := strings.Repeat("x", 4000)
	r.must("PUT /v1/kv/big", value)
	w := r.do("GET /v1/kv/big?raw", "", "Accept-Encoding", "br, gzip;q=0.5")
	if w.Header().Get("Content-Encoding") != "gzip" || w.Body.Len() >= len(value) {
		t.Fatalf("not compressed: %v", w.Header())
	}
	zr, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(zr); err != nil || string(plain) != value {
		t.Errorf("unpacked %d bytes, %v", len(plain), err)
	}
	r.must("PUT /v1/kv/small", "x")
	for _, c := range []struct{ target, accept string }{
		{"GET /v1/kv/small", "gzip"}, {"GET /v1/kv/big", "gzip;q=0"}, {"GET /v1/kv/big", "identity"},
	} {
		w := r.do(c.target, "", "Accept-Encoding", c.accept)
		if w.Header().Get("Content-Encoding") != "" || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s with %s: headers %v", c.target, c.accept, w.Header())
		}
	}
}

func TestBodyLimits(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxKVValueSize, c.MaxTxnBodySize = 10, 20 })
	const see = " See https://www.consul.io/docs/agent/config/config-files#"
	r.check(t, []want{
		{"PUT /v1/kv/a", "0123456789", 200, "true"},
		{"PUT /v1/kv/a", "0123456789x", 413,
			"Request body(11 bytes) too large, max size: 10 bytes." + see + "kv_max_value_size."},
		{"PUT /v1/txn", strings.Repeat(" ", 21), 413,
			"Request body(21 bytes) too large, max size: 20 bytes." + see + "txn_max_req_len."},
		{"PUT /v1/catalog/register", strings.Repeat(" ", api.MaxBodySize+1), 413, "~too large"},
	})
	// A body without a length is read no further than the limit.
	req := httptest.NewRequest("PUT", "/v1/kv/a", io.LimitReader(neverEnding{}, 1<<40))
	req.ContentLength = -1
	w := httptest.NewRecorder()
	r.api.Public().ServeHTTP(w, req)
	if w.Code != 413 || w.Header().Get("Connection") != "close" {
		t.Errorf("chunked: %d %v", w.Code, w.Header())
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestHTTPConfig(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.ResponseHeaders = map[string]string{"x-mine": "yes"}
		c.BlockEndpoints = []string{"/v1/agent/"}
		c.AllowWriteFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	r.check(t, []want{ // the recorder's requests come from 192.0.2.1
		{"GET /v1/agent/self", "", 403, "Endpoint is blocked by agent configuration"},
		{"PUT /v1/kv/a", "x", 403, "Access is restricted"},
		{"GET /v1/status/leader", "", 200, `"10.0.0.1:8300"`},
	})
	for _, target := range []string{"GET /v1/status/leader", "GET /nope", "GET /v1/kv"} {
		if w := r.do(target, ""); w.Header().Get("X-Mine") != "yes" {
			t.Errorf("%s lacks the configured header", target)
		}
	}
}

func TestPanicBecomes500(t *testing.T) {
	r := newRig(t)
	r.api.table = newTable([]route{
		row("GET", "/v1/boom", here, plain, anybody, func(*API, *request) (any, error) { panic("secret reason") }),
		row("GET", "/v1/late", here, plain, anybody, func(_ *API, rq *request) (any, error) {
			rq.answer("half")
			panic("late")
		}),
	})
	w := r.do("GET /v1/boom", "")
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || w.Body.Len() == 0 {
		t.Errorf("panic: %d %q", w.Code, w.Body)
	}
	defer func() {
		if p, ok := recover().(error); !ok || !errors.Is(p, http.ErrAbortHandler) {
			t.Errorf("a panic after the answer began: recovered %v", p)
		}
	}()
	r.do("GET /v1/late", "")
}

func TestErrorMapping(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{api.Errorf(418, "tea"), 418},
		{errors.New("x: Permission denied"), 403},
		{errors.New("ACL not found"), 403},
		{errors.New("RPC rate limit exceeded"), 429},
		{errors.New("rate limit exceeded, try again later or against a different server"), 429},
		{errors.New("rate limit exceeded for operation that can only be performed by the leader, try again later"), 503},
		{api.ErrNoLeader, 500},
		{context.Canceled, 500},
	} {
		if code, text := statusOf(c.err); code != c.code || text != c.err.Error() {
			t.Errorf("%v: %d %q", c.err, code, text)
		}
	}
}

func TestSharedParameters(t *testing.T) {
	r := newRig(t)
	r.check(t, []want{
		{"GET /v1/kv/a?index=x", "", 400, "Invalid index"},
		{"GET /v1/kv/a?index=-1", "", 400, "Invalid index"},
		{"GET /v1/kv/a?wait=10", "", 400, "Invalid wait time"},
		{"GET /v1/kv/a?wait=10&index=x", "", 400, "Invalid wait time"},
		{"PUT /v1/kv/a?index=x", "v", 400, "Invalid index"},
		{"GET /v1/catalog/nodes?max_stale=x", "", 400, `Invalid max_stale value "x"`},
		{"GET /v1/catalog/nodes?stale&consistent", "", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{"GET /v1/catalog/nodes?cached&consistent", "", 400, "Cannot specify ?cached with ?consistent, conflicting semantics."},
		{"GET /v1/catalog/nodes?dc=elsewhere", "", 500, "No path to datacenter"},
		{"GET /v1/catalog/nodes?dc=elsewhere&datacenter=dc1", "", 200, "[]"},
		{"PUT /v1/kv/a?dc=elsewhere", "v", 500, "No path to datacenter"},
		{"GET /v1/agent/services?dc=elsewhere", "", 200, "{}"},
		{"GET /v1/catalog/datacenters?dc=elsewhere", "", 200, `["dc1"]`},
		{"GET /v1/kv/a?ns=default", "", 400, `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{"GET /v1/catalog/nodes?ns=default", "", 200, "[]"},
		{"GET /v1/catalog/nodes?partition=", "", 400, `Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`},
	})
	for header, code := range map[string]int{"X-Consul-Namespace": 400, "X-Consul-Partition": 400, "X-Other": 200} {
		if w := r.do("GET /v1/catalog/services", "", header, "x"); w.Code != code {
			t.Errorf("%s: %d", header, w.Code)
		}
	}
	for control, code := range map[string]int{"max-age=x": 400, "max-age=3, must-revalidate": 200, "stale-if-error=-1": 400, "no-cache": 200} {
		if w := r.do("GET /v1/catalog/services", "", "Cache-Control", control); w.Code != code {
			t.Errorf("Cache-Control %s: %d", control, w.Code)
		}
	}
}

func TestNoSecretsInLogs(t *testing.T) {
	req := httptest.NewRequest("GET", "/v1/kv/a?token=s3cret&raw", nil)
	if got := loggable(req.URL); strings.Contains(got, "s3cret") || !strings.Contains(got, "raw") {
		t.Errorf("logged as %s", got)
	}
}
