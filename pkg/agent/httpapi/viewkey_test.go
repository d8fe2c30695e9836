package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

// Answers that are shared are those that each reader would get alone, whatever
// was asked before and whatever is written between.
func TestSharedAnswersDoNotMix(t *testing.T) {
	r := newRig(t)
	targets := []string{
		"/v1/health/service/web", "/v1/health/service/web?passing", "/v1/health/service/web?tag=a", "/v1/health/service/web?tag=a&tag=b",
		"/v1/health/service/WEB", "/v1/health/service/web?filter=Service.Port==80", "/v1/health/service/web?filter=Service.Port==81",
		"/v1/health/service/web?pretty", "/v1/health/service/web?stale", "/v1/health/service/web?node-meta=k:v", "/v1/health/service/web?index=1&wait=1ms",
		"/v1/catalog/service/web", "/v1/catalog/services", "/v1/catalog/nodes", "/v1/kv/a?recurse", "/v1/kv/a?keys", "/v1/kv/a?recurse&raw",
		"/v1/kv/a", "/v1/kv/a?index=1&wait=1ms", "/v1/kv/a?raw&index=1&wait=1ms", "/v1/kv/?keys&separator=/", "/v1/kv/absent?index=1&wait=1ms",
	}
	for round := range 4 {
		status := []string{"passing", "warning"}[round%2]
		r.must("PUT /v1/catalog/register", fmt.Sprintf(
			`{"Node":"n%d","Address":"10.0.0.1","NodeMeta":{"k":"v"},"Service":{"Service":"web","Port":8%d,"Tags":["a"]},"Check":{"Name":"c","ServiceID":"web","Status":%q}}`,
			round, round, status))
		r.must("PUT /v1/kv/a", fmt.Sprint(round))
		alone := newRig(t, func(c *Config) { c.Cluster = r.cluster })
		for _, target := range targets {
			first, again := r.do("GET "+target, ""), r.do("GET "+target, "")
			fresh := alone.do("GET "+withNoise(target, round), "")
			if first.Body.String() != again.Body.String() || first.Body.String() != fresh.Body.String() || first.Code != fresh.Code {
				t.Errorf("%s in round %d:\n%d %s\n%d %s\n%d %s", target, round, first.Code, first.Body, again.Code, again.Body, fresh.Code, fresh.Body)
			}
		}
	}
}

// withNoise adds a parameter that means nothing, so that nothing is shared with
// requests that lack it.
func withNoise(target string, round int) string {
	sep := "?"
	if strings.Contains(target, "?") {
		sep = "&"
	}
	return fmt.Sprintf("%s%snoise=%d", target, sep, round)
}

func TestShareKey(t *testing.T) {
	r := newRig(t)
	key := func(target string) string {
		rq := &request{api: r.api, r: newRequest(t, target)}
		rt, name, _ := r.api.table.find(rq.r.URL.Path)
		rq.route, rq.name, rq.values = rt, name, rq.r.URL.Query()
		if rq.has("index") {
			rq.index = 1
		}
		return rq.shareKey()
	}
	for _, same := range [][]string{
		{"/v1/catalog/nodes", "/v1/catalog/nodes?index=5&wait=1m", "/v1/catalog/nodes?stale", "/v1/catalog/nodes?pretty&consistent"},
		{"/v1/health/service/web?passing&tag=a", "/v1/health/service/web?tag=a&passing&index=7"},
	} {
		for _, target := range same[1:] {
			if key(target) != key(same[0]) {
				t.Errorf("%s and %s do not share: %q, %q", same[0], target, key(same[0]), key(target))
			}
		}
	}
	if a, b := key("/v1/kv/a%3Frecurse=?index=1"), key("/v1/kv/a?recurse&index=1"); a == b {
		t.Errorf("a key with a question mark in it shares with a parameter: %q", a)
	}
	if key("/v1/kv/a") != "" || key("/v1/kv/a?index=1") == "" || key("/v1/health/service/web") == key("/v1/health/service/web?passing") {
		t.Error("the wrong reads share")
	}
}

func newRequest(t *testing.T, target string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://h"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func BenchmarkHealthService(b *testing.B) {
	r := newRig(b)
	for i := range 100 {
		r.must("PUT /v1/catalog/register", fmt.Sprintf(`{"Node":"n%d","Address":"10.0.0.1","Service":{"Service":"web","Port":80}}`, i))
	}
	for b.Loop() {
		r.must("GET /v1/health/service/web?passing", "")
	}
}

// DNS on a server asks the very read of a GET, and shares its view.
func TestInstancesShareTheViewOfTheirRoute(t *testing.T) {
	r := newRig(t)
	r.seed()
	for target, tags := range map[string][]string{
		"GET /v1/health/service/web":                nil,
		"GET /v1/health/service/web?tag=a&tag=b":    {"A", "b"},
		"GET /v1/health/service/web?tag=a&stale&dc": {"a"},
	} {
		in := httptest.NewRequest("GET", strings.TrimPrefix(target, "GET "), nil)
		rt, name, _ := r.api.table.find(in.URL.Path)
		rq := &request{api: r.api, r: in, route: rt, name: name}
		rq.values = in.URL.Query()
		key, query := Instances("Web", tags)
		if key != rq.shareKey() {
			t.Errorf("%s: DNS shares %q, the GET %q", target, key, rq.shareKey())
		}
		v, err := rt.handle(r.api, rq)
		if err != nil {
			t.Fatal(err)
		}
		sn := r.cluster.Views().Snapshot()
		if got, want := query(sn).Value, v.(read).query(sn).Value; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: DNS sees %v, the GET %v", target, got, want)
		}
	}
}
