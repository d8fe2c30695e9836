package httpapi

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Whatever a client sends, it gets an HTTP answer, and no handler panics.
func TestRandomRequests(t *testing.T) {
	r := newRig(t)
	r.seed()
	srv := httptest.NewServer(r.api.Public())
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var wg sync.WaitGroup
	for seed := range uint64(2) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 3))
			for range 1500 {
				req := randomRequest(t, rnd, srv.URL)
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Errorf("%s %s: %v", req.Method, req.URL, err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || strings.Contains(string(body), "internal error") {
					t.Errorf("%s %s: %d %q %v", req.Method, req.URL, resp.StatusCode, body, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func randomRequest(t *testing.T, rnd *rand.Rand, base string) *http.Request {
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	// A subscription that is understood is a stream without end.
	rows := slices.DeleteFunc(routes(), func(rt route) bool { return rt.path == api.SubscribePath })
	path := rows[rnd.IntN(len(rows))].path + pick("", "", "a", "web", "a/b", "../x", "%00", "%ff%fe", "web1", "n1", "\u202e", "a%2f%2fb", strings.Repeat("/x", 50))
	query := ""
	for range rnd.IntN(4) {
		query += "&" + pick("index", "wait", "stale", "consistent", "filter", "keys", "recurse", "raw", "cas", "flags", "dc", "separator", "tag",
			"node-meta", "passing", "pretty", "hash", "enable", "max_stale", "ns", "acquire", "release", "format", "%gg", "near")
		query += pick("", "=", "=1", "=0", "=-1", "=1ms", "=x", "=%00", "=ServicePort==80", "=Node==a", "=((((", "=Meta.x+is+empty", "=dc1", "=true",
			"=18446744073709551615", "=99999999999999999999", "=rack:1")
	}
	body := pick("", "", "null", "{}", "[]", "[{}]", "[null]", `{"Node":"a"}`, `{"Node":"r","Address":"x","Service":null,"Check":null,"Checks":[null]}`,
		`{"Name":"s","Checks":[null]}`, `{"Name":"s","Check":null,"Weights":null}`, `{"Name":"c","TTL":"1h"}`, `{"Check":[{"a":[{}]}]}`,
		`[{"KV":null}]`, `[{"KV":{"Verb":"set"}}]`, `[{"Node":{}}]`, `[{"Service":{}},{"Check":{}}]`, `[{"KV":{"Verb":"get-tree"}}]`,
		strings.Repeat("[", 20000), strings.Repeat(`{"Service":`, 3000), "\x00\xff", `{"Name":"\ud800","Port":1e400}`, `"text"`, "7")
	method := pick("GET", "GET", "GET", "PUT", "PUT", "PUT", "DELETE", "POST", "OPTIONS", "HEAD", "BREW")
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
		if rnd.IntN(4) == 0 {
			in = io.MultiReader(in) // chunked
		}
	}
	req, err := http.NewRequest(method, base, in)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = strings.TrimPrefix(base, "http:") + path
	req.URL.RawQuery = strings.TrimPrefix(query, "&")
	// An index needs a short wait here, and the last of two counts for nothing.
	if strings.Contains(query, "index") || strings.Contains(query, "hash") {
		req.URL.RawQuery = "wait=1ms&" + req.URL.RawQuery
	}
	req.Header.Set("Accept-Encoding", pick("gzip", "", "gzip;q=x", ",,;"))
	req.Header.Set("Cache-Control", pick("", "max-age", "max-age=1", "="))
	return req
}

func TestConnLimit(t *testing.T) {
	limit := NewConnLimit(2)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limit.Listener(inner)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	get := func() (net.Conn, *http.Response) {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return conn, resp
	}
	first, resp := get()
	if resp.StatusCode != 200 {
		t.Fatalf("first: %d", resp.StatusCode)
	}
	second, resp := get()
	if resp.StatusCode != 200 {
		t.Fatalf("second: %d", resp.StatusCode)
	}
	third, resp := get()
	body, _ := io.ReadAll(resp.Body)
	const text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
	if resp.StatusCode != 429 || string(body) != text || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("third: %d %q %v", resp.StatusCode, body, resp.Header)
	}
	third.Close()
	limit.Set(3)
	fourth, resp := get()
	if resp.StatusCode != 200 {
		t.Errorf("after the limit was raised: %d", resp.StatusCode)
	}
	limit.Set(2)
	for _, conn := range []net.Conn{first, second, fourth} {
		conn.Close()
	}
	// What was closed counts no more; the server notices in its own time.
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, resp := get()
		conn.Close()
		if resp.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("closed connections still count")
		}
	}
	srv.Close()
	<-served
	if err := ln.Close(); err == nil {
		t.Error("the listener was still open after the server closed")
	}
}

func TestConnLimitInAll(t *testing.T) {
	limit := NewConnLimit(0)
	limit.mostAll = 1
	ip, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if got := limit.take(ip); got != "" {
		t.Fatalf("the first was answered %q", got)
	}
	if got := limit.take(other); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("the second was answered %q", got)
	}
	limit.release(ip)
	if got := limit.take(other); got != "" {
		t.Errorf("after one has ended: %q", got)
	}
}

// Who is refused in the middle of a request gets the end of the answer with it,
// not half a second later.
func TestRefusalEndsAtOnce(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(NewConnLimit(2).Listener(inner)) }()
	conn, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nxxxx")
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), " 413 ") {
		t.Errorf("%q, %v", got, err)
	}
	if took := time.Since(began); took > 400*time.Millisecond {
		t.Errorf("the end came after %v", took)
	}
	srv.Close()
	<-served
}

// A client that takes nothing in loses its connection, also where no answer is
// large; a handler that sets a time of its own gets that.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, given := range []time.Duration{0, time.Second} {
			near, far := net.Pipe()
			conn := &limitedConn{Conn: near, release: func() {}}
			if given != 0 {
				_ = conn.SetWriteDeadline(time.Now().Add(given))
			}
			began := time.Now()
			_, err := conn.Write([]byte("small"))
			took := time.Since(began)
			if !errors.Is(err, os.ErrDeadlineExceeded) || given != 0 && took != given || given == 0 && (took < writeGrace || took > 2*writeGrace) {
				t.Errorf("given %v: %v after %v", given, err, took)
			}
			_ = conn.SetWriteDeadline(time.Time{})
			go func() { _, _ = io.Copy(io.Discard, far) }()
			if _, err := conn.Write([]byte("small")); err != nil {
				t.Errorf("given %v: once the client reads: %v", given, err)
			}
			_ = conn.Close()
			_ = far.Close()
		}
	})
}
