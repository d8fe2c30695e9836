package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// subscriber reads the frames of one stream.
type subscriber struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (r *rig) subscribe(t *testing.T, sub api.Subscription) *subscriber {
	t.Helper()
	srv := httptest.NewServer(r.api.Public())
	ctx, cancel := context.WithCancel(t.Context())
	body, err := json.Marshal(sub)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+api.SubscribePath, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	s := &subscriber{t: t, resp: resp, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	s.lines.Buffer(nil, 10<<20)
	t.Cleanup(func() {
		cancel()
		resp.Body.Close()
		srv.Close()
	})
	return s
}

func (s *subscriber) next() api.Frame {
	s.t.Helper()
	var f api.Frame
	if !s.lines.Scan() {
		s.t.Fatalf("the stream ended: %v", s.lines.Err())
	}
	if err := json.Unmarshal(s.lines.Bytes(), &f); err != nil {
		s.t.Fatalf("frame %q: %v", s.lines.Bytes(), err)
	}
	return f
}

func queries(paths ...string) []api.SubscribedQuery {
	var out []api.SubscribedQuery
	for i, p := range paths {
		out = append(out, api.SubscribedQuery{ID: fmt.Sprint(i), Path: p})
	}
	return out
}

func TestSubscribeGivesWhatAGetGives(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/kv/app/a", "1")
	r.must("PUT /v1/catalog/register", `{"Node":"n1","Address":"10.0.0.1","Service":{"Service":"web","Port":80},"Check":{"Name":"c","ServiceID":"web","Status":"passing"}}`)
	paths := []string{
		"/v1/kv/app/a", "/v1/kv/app/?recurse", "/v1/kv/?keys&separator=/", "/v1/catalog/services", "/v1/catalog/nodes",
		"/v1/health/service/web?passing", `/v1/health/service/web?filter=Service.Port==80`, "/v1/catalog/node/n1",
		"/v1/kv/absent", "/v1/health/service/web?passing=maybe", "/v1/kv/app/a?index=x",
	}
	s := r.subscribe(t, api.Subscription{Queries: queries(paths...)})
	if ct := s.resp.Header.Get("Content-Type"); ct != "application/x-ndjson" {
		t.Errorf("type %q", ct)
	}
	f := s.next()
	if len(f.Results) != len(paths) || f.Index != r.cluster.index {
		t.Fatalf("%d results at %d, want %d at %d", len(f.Results), f.Index, len(paths), r.cluster.index)
	}
	for _, res := range f.Results {
		var n int
		fmt.Sscan(res.ID, &n)
		w := r.do("GET "+paths[n], "")
		got := string(res.Body)
		if res.Status != 200 {
			got = res.Error
		}
		if res.Status != w.Code || got != w.Body.String() {
			t.Errorf("%s: frame has %d %s, a GET %d %s", paths[n], res.Status, got, w.Code, w.Body)
		}
		if index := w.Header().Get(api.HeaderIndex); index != "" && index != fmt.Sprint(res.Index) {
			t.Errorf("%s: frame has index %d, a GET %s", paths[n], res.Index, index)
		}
	}
}

func TestSubscribeSendsDifferencesOnly(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/kv/a", "1")
	r.must("PUT /v1/kv/b", "1")
	s := r.subscribe(t, api.Subscription{Queries: queries("/v1/kv/a", "/v1/kv/b")})
	first := s.next()
	r.must("PUT /v1/kv/unrelated", "x")
	r.must("PUT /v1/kv/b", "2")
	f := s.next()
	if len(f.Results) != 1 || f.Results[0].ID != "1" || f.Index != r.cluster.index {
		t.Fatalf("frame %+v, want b alone at %d", f, r.cluster.index)
	}

	// Who comes back with what it has gets what it lacks.
	resume := queries("/v1/kv/a", "/v1/kv/b")
	resume[0].Hash, resume[1].Hash = first.Results[0].Hash, first.Results[1].Hash
	again := r.subscribe(t, api.Subscription{Index: first.Index, Queries: resume}).next()
	if len(again.Results) != 1 || again.Results[0].Hash != f.Results[0].Hash {
		t.Fatalf("resumed with %+v, want the new b alone", again)
	}
	resume[1].Hash = f.Results[0].Hash
	if again = r.subscribe(t, api.Subscription{Queries: resume}).next(); len(again.Results) != 0 || again.Index == 0 {
		t.Fatalf("resumed with %+v, want an empty frame", again)
	}
}

// Fifty keys that one transaction writes are in a frame together, always.
func TestSubscribeNeverSplitsATransaction(t *testing.T) {
	const keys, rounds = 50, 100
	r := newRig(t)
	var paths []string
	for i := range keys {
		paths = append(paths, fmt.Sprint("/v1/kv/k/", i, "?raw"))
	}
	txn := func(v int) {
		var ops []*api.TxnOp
		for i := range keys {
			ops = append(ops, &api.TxnOp{KV: &api.TxnKVOp{Verb: "set", Key: fmt.Sprint("k/", i), Value: []byte(fmt.Sprint(v))}})
		}
		body, err := json.Marshal(ops)
		if err != nil {
			t.Fatal(err)
		}
		r.must("PUT /v1/txn", string(body))
	}
	txn(0)
	s := r.subscribe(t, api.Subscription{Queries: queries(paths...)})
	go func() {
		for v := 1; v <= rounds; v++ {
			txn(v)
		}
	}()
	have := map[string]string{}
	last := fmt.Sprintf(`"%s"`, "MTAw") // base64 of 100
	for have["0"] != last {
		for _, res := range s.next().Results {
			have[res.ID] = string(res.Body)
		}
		for id, v := range have {
			if v != have["0"] {
				t.Fatalf("key %s is %s while key 0 is %s", id, v, have["0"])
			}
		}
	}
}

// All who follow or wait for one thing share the bytes of its answer.
func TestSubscribeSharesEncodings(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/kv/a", "1")
	paths := []string{"/v1/kv/a", "/v1/kv/a?raw", "/v1/kv/absent"}
	var forms [2][]*view.Encoded
	for i := range forms {
		s := &stream{rq: &request{api: r.api, r: newRequest(t, "/"), ctx: t.Context()}, queries: map[string]*subscribed{}}
		for _, p := range paths {
			s.queries[p] = &subscribed{path: p}
		}
		f := r.cluster.views.Follow()
		defer f.Close()
		s.follow(f)
		_, changes, err := f.Next(t.Context(), time.Minute)
		var frame frame
		if err = errors.Join(err, s.add(&frame, changes)); err != nil {
			t.Fatal(err)
		}
		for _, res := range frame.results {
			forms[i] = append(forms[i], res.form)
		}
	}
	if len(forms[0]) != len(paths) || !slices.Equal(forms[0], forms[1]) {
		t.Errorf("two streams have forms of their own: %p, %p", forms[0], forms[1])
	}
	rq := &request{api: r.api, r: newRequest(t, "/v1/kv/a?index=1"), ctx: t.Context()}
	rq.route, rq.name, _ = r.api.table.find("/v1/kv/a")
	rq.values = rq.r.URL.Query()
	ans, _ := r.cluster.views.Read(t.Context(), rq.viewKey(), nil, 0, 0) // it has been asked: nil is not called
	body, err := ans.Encoding.Make(view.Body, nil)
	if err != nil || &body.Body[0] != &forms[0][0].Body[0] {
		t.Errorf("a GET has bytes of its own: %v", err)
	}
}

// A client that does not read holds back nobody, gets the newest state when it
// does, and no frame of what was between.
func TestSubscribeSlowReader(t *testing.T) {
	const size, writes = 256 << 10, 40
	r := newRig(t)
	value := func(n int) string { return fmt.Sprintf("%0*d", size, n) }
	r.must("PUT /v1/kv/a", value(0))
	slow := r.subscribe(t, api.Subscription{Queries: queries("/v1/kv/a?raw")})
	quick := r.subscribe(t, api.Subscription{Queries: queries("/v1/kv/a?raw")})
	quick.next()
	for n := 1; n <= writes; n++ {
		r.must("PUT /v1/kv/a", value(n))
		if f := quick.next(); f.Index != r.cluster.index {
			t.Fatalf("frame at %d after write %d", f.Index, r.cluster.index)
		}
	}
	frames, last := 0, uint64(0)
	for last < r.cluster.index {
		f := slow.next()
		frames, last = frames+1, f.Index
	}
	if frames > writes*3/4 {
		t.Errorf("%d frames for %d writes: what the client did not read was kept for it", frames, writes)
	}
}

func TestSubscribeEndsWithTheLeadership(t *testing.T) {
	r := newRig(t)
	s := r.subscribe(t, api.Subscription{Queries: queries("/v1/kv/a")})
	s.next()
	r.cluster.depose("l:2")
	if f := s.next(); f.Error != api.TextNoLeader {
		t.Errorf("last frame %+v", f)
	}
	if s.lines.Scan() {
		t.Errorf("a frame after the last: %s", s.lines.Bytes())
	}
}

func TestSubscribeFirstAppliesWhatTheClientHas(t *testing.T) {
	r := newRig(t)
	got := make(chan api.Frame, 1)
	r.must("PUT /v1/kv/a", "1")
	go func() {
		w := &strings.Builder{}
		_ = w
		r.must("PUT /v1/kv/a", "2")
	}()
	s := r.subscribe(t, api.Subscription{Index: 2, Queries: queries("/v1/kv/a?raw")})
	got <- s.next()
	if f := <-got; f.Index < 2 || string(f.Results[0].Body) != `"Mg=="` {
		t.Errorf("frame %+v is older than what the client has", f)
	}
}

func TestSubscribeRefusals(t *testing.T) {
	r := newRig(t)
	many := api.Subscription{Queries: make([]api.SubscribedQuery, api.MaxSubscribedQueries+1)}
	tooMany, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{
		`{`:             400,
		`{"Querys":[]}`: 400,
		`{"Queries":[{"ID":"a","Path":"/v1/kv/a"},{"ID":"a","Path":"/v1/kv/b"}]}`: 400,
		string(tooMany): 413,
	} {
		if w := r.do("POST "+api.SubscribePath, body); w.Code != want {
			t.Errorf("%.60s: %d %s, want %d", body, w.Code, w.Body, want)
		}
	}
	s := r.subscribe(t, api.Subscription{Queries: queries(
		"/v1/agent/self", "/v1/status/leader", "/v1/nope", "nonsense", "/v1/kv/%zz", "/v1/session/renew/x", "/v1/subscribe", "/v1/txn",
	)})
	f := s.next()
	if len(f.Results) != 8 {
		t.Fatalf("%d results", len(f.Results))
	}
	for _, res := range f.Results {
		if res.Status < 400 || res.Status >= 500 || res.Error == "" {
			t.Errorf("query %s: %+v, want an error of its own", res.ID, res)
		}
	}
}

// A subscription that waits for its index when the leader steps down is sent to the
// next one whole.
func TestSubscriptionThatWaitsGoesToTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const body = `{"Index":1000,"Queries":[{"ID":"a","Path":"/v1/kv/a"}]}`
		done := make(chan struct{})
		go func() {
			defer close(done)
			if got := r.must("POST "+api.SubscribePath, body); got != "from leader l:2 forwards 0" {
				t.Errorf("answered %q", got)
			}
		}()
		synctest.Wait()
		r.cluster.depose("l:2")
		<-done
		if len(r.forward.calls) != 1 || !strings.HasSuffix(r.forward.calls[0], body) {
			t.Errorf("sent on: %q", r.forward.calls)
		}
	})
}

// A path means the same in a subscription as in a GET whose redirects are followed,
// and as to the Go client.
func TestPathsAreFollowedAsTheyAreRead(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/kv/app/port", "8080")
	r.must("PUT /v1/kv/top", "1")
	srv := httptest.NewServer(r.api.Public())
	defer srv.Close()
	var keys, paths []string
	for _, key := range []string{
		"app/port", "app//port", "/app/port", "//app//port", "./app/port", "app/./port", "app/x/../port", "x/../top", "app/port/", "app/..", ".", "none//at/all",
	} {
		keys, paths = append(keys, key), append(paths, "/v1/kv/"+key+"?recurse")
	}
	paths = append(paths, "/v1//kv/app/port", "/v1/kv", "/v1/kv/../kv/top", "/v1/catalog//nodes", "/v1/kv/%2Fapp%2F%2Fport")
	sub := api.Subscription{Queries: queries(paths...)}
	results := map[string]api.SubscribedResult{}
	for _, result := range r.subscribe(t, sub).next().Results {
		results[result.ID] = result
	}
	for i, path := range paths {
		resp, err := srv.Client().Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		result := results[sub.Queries[i].ID]
		if result.Status != resp.StatusCode || resp.StatusCode == 200 && string(result.Body) != strings.TrimSpace(string(body)) {
			t.Errorf("%s is followed as %d %s, and read as %d %s", path, result.Status, result.Body, resp.StatusCode, body)
		}
		if i < len(keys) {
			clean := strings.TrimPrefix(resp.Request.URL.Path, "/v1/kv/")
			if got := api.CleanKey(keys[i]); got != clean {
				t.Errorf("%s is %q to the client, and %q to the agent", keys[i], got, clean)
			}
		}
	}
}
