package httpapi

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

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
