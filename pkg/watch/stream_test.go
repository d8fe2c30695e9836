package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// streamFake is a fake that has subscriptions as well.
type streamFake struct {
	*fake
	subscribed []api.Subscription
	absent     bool // answers 404
	silent     bool // sends nothing after the first frame
	leaderless bool // answers 500
	refuses    bool // every query
	cut        chan struct{}
}

func (f *streamFake) Stream(ctx context.Context, _, _ string, _ *client.Options, in any) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail[""]; err != nil {
		return nil, err
	}
	resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
	sub := in.(api.Subscription)
	f.subscribed = append(f.subscribed, sub)
	if f.leaderless {
		resp.StatusCode = http.StatusInternalServerError
		return resp, nil
	}
	if f.absent {
		resp.StatusCode = http.StatusNotFound
		return resp, nil
	}
	r, w := io.Pipe()
	resp.Body = r
	go f.serve(ctx, w, sub, f.cut)
	return resp, nil
}

func (f *streamFake) serve(ctx context.Context, w *io.PipeWriter, sub api.Subscription, cut chan struct{}) {
	// Unblocks a Write. Whoever stops it in time closes the pipe itself, or the reader waits for ever.
	defer context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })()
	have := map[string]string{}
	for _, q := range sub.Queries {
		have[q.ID] = q.Hash
	}
	for first := true; ; first = false {
		f.mu.Lock()
		frame := api.Frame{Index: 1}
		for _, q := range sub.Queries {
			path, _, _ := strings.Cut(q.Path, "?")
			frame.Index = max(frame.Index, f.indexes[path])
			r := api.SubscribedResult{ID: q.ID, Index: f.indexes[path], Status: 404, Hash: "absent"}
			if body, ok := f.bodies[path]; ok {
				r.Status, r.Body, r.Hash = 200, json.RawMessage(body), fmt.Sprintf("%x", body)
			}
			if f.refuses {
				r.Status, r.Body, r.Error, r.Hash = 500, nil, "no such selector", "refused"
			}
			if have[q.ID] != r.Hash {
				have[q.ID] = r.Hash
				frame.Results = append(frame.Results, r)
			}
		}
		changed, silent := f.changed, f.silent
		f.mu.Unlock()
		if !silent || first {
			line, _ := json.Marshal(frame)
			if _, err := w.Write(append(line, '\n')); err != nil {
				return
			}
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
		case <-cut:
			w.CloseWithError(io.ErrUnexpectedEOF)
			return
		case <-ctx.Done():
			w.CloseWithError(ctx.Err())
			return
		}
	}
}

type streamRig struct {
	*rig
	server *streamFake
}

func newStreamRig(t *testing.T, cfg Config) *streamRig {
	t.Helper()
	r := &rig{fake: newFake(), t: t, log: &bytes.Buffer{}}
	s := &streamFake{fake: r.fake, cut: make(chan struct{})}
	cfg.Client = s
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	r.Watcher = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.err = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return &streamRig{rig: r, server: s}
}

// cutOff breaks the streams that are open now, but no later one.
func (r *streamRig) cutOff() {
	r.change(func() {
		close(r.server.cut)
		r.server.cut = make(chan struct{})
	})
}

func (r *streamRig) subscriptions() []api.Subscription {
	r.fake.mu.Lock()
	defer r.fake.mu.Unlock()
	return r.server.subscribed
}

func TestStreamCarriesAllRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		var queries []Request
		r.change(func() {
			for i := range 3000 {
				q := Request{Path: fmt.Sprintf("/v1/health/service/s%d", i), Params: "passing=1"}
				queries = append(queries, q)
				r.bodies[q.Path], r.indexes[q.Path] = oneWeb, 5
			}
		})
		r.Follow(queries)
		if f := r.frame(time.Second); len(f.Results) != 3000 || f.Index != 5 {
			t.Fatalf("%d results at %d", len(f.Results), f.Index)
		}
		// A change of many is one frame, whole.
		r.change(func() {
			for _, q := range queries[:50] {
				r.bodies[q.Path], r.indexes[q.Path] = strings.ReplaceAll(oneWeb, "web1", "web2"), 6
			}
		})
		if f := r.frame(time.Second); len(f.Results) != 50 || f.Index != 6 {
			t.Fatalf("%d results at %d", len(f.Results), f.Index)
		}
		r.noFrame(10 * time.Minute)
		if n := len(r.subscriptions()); n != 1 || r.asked != 0 {
			t.Fatalf("%d subscriptions, %d other requests", n, r.asked)
		}
	})
}

func TestStreamResumesWithHashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.set(nodes.Path, `[{"Node":"n1"}]`, 6)
		r.Follow([]Request{web})
		r.frame(time.Second)
		r.Follow([]Request{web, nodes}) // grows
		if f := r.frame(time.Second); len(f.Results) != 1 || f.Index != 6 {
			t.Fatalf("frame %+v", f)
		}
		time.Sleep(time.Minute)
		r.cutOff()
		r.noFrame(time.Minute)
		r.Follow([]Request{nodes}) // shrinks
		synctest.Wait()
		subs := r.subscriptions()
		last := subs[len(subs)-1]
		if len(last.Queries) != 1 || last.Queries[0].Hash == "" || last.Index != 6 || len(subs) != 4 {
			t.Fatalf("%d subscriptions, the last %+v", len(subs), last)
		}
		if strings.Contains(r.log.String(), "cannot get data") {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestSilentStreamIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.change(func() { r.server.silent = true })
		r.Follow([]Request{web})
		r.frame(time.Second)
		r.set(web.Path, strings.ReplaceAll(oneWeb, "web1", "web2"), 6)
		r.frame(27 * time.Second)
	})
}

// A request that the server refuses is logged, and ends Run where attempts are
// limited.
func TestStreamLogsRefusedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.change(func() { r.server.refuses = true })
		r.Follow([]Request{web})
		r.noFrame(time.Minute)
		if log := r.log.String(); strings.Count(log, "cannot get data") != 1 || !strings.Contains(log, "no such selector") {
			t.Fatalf("log:\n%s", log)
		}
		r.change(func() { r.server.refuses = false })
		r.frame(time.Second)
		synctest.Wait()
		if log := r.log.String(); strings.Count(log, "got data again") != 1 {
			t.Fatalf("log:\n%s", log)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{Retry: Retry{Attempts: 3}})
		r.change(func() { r.server.refuses = true })
		r.Follow([]Request{web})
		_, err := r.Next(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no such selector") {
			t.Fatalf("error %v", err)
		}
	})
}

func TestFallBackToPollsAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		r.change(func() { r.server.absent = true })
		r.set(web.Path, oneWeb, 5)
		r.Follow([]Request{web})
		if f := r.frame(time.Second); f.Index != 0 || len(f.Results) != 1 {
			t.Fatalf("frame %+v", f)
		}
		time.Sleep(time.Hour)
		if n := len(r.subscriptions()); n != 1 {
			t.Fatalf("asked %d times for a subscription", n)
		}
		// The agent is replaced by one that can.
		r.failing("", errors.New("connection refused"))
		time.Sleep(time.Minute)
		r.change(func() { r.server.absent = false })
		r.failing("", nil)
		r.noFrame(time.Minute)
		r.set(web.Path, strings.ReplaceAll(oneWeb, "web1", "web2"), 6)
		if f := r.frame(time.Second); f.Index != 6 {
			t.Fatalf("frame %+v", f)
		}
		asked := r.count(web.Path)
		time.Sleep(time.Hour)
		if n := r.count(web.Path); n != asked {
			t.Errorf("%d polls beside the stream", n-asked)
		}
		// And by one that cannot.
		r.change(func() { r.server.absent = true; close(r.server.cut) })
		time.Sleep(time.Second)
		r.set(web.Path, `[]`, 7)
		if f := r.frame(time.Minute); f.Index != 0 || !f.Results[web].Empty {
			t.Fatalf("frame %+v", f)
		}
	})
}

func TestStreamFailureIsLoggedTwiceAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		r.set(web.Path, oneWeb, 5)
		r.failing("", errors.New("connection refused"))
		r.Follow([]Request{web})
		time.Sleep(time.Hour)
		if r.Failing()[web] == nil {
			t.Error("nothing fails")
		}
		r.failing("", nil)
		r.frame(7 * time.Second)
		synctest.Wait()
		if len(r.Failing()) != 0 {
			t.Errorf("failing: %v", r.Failing())
		}
		log := r.log.String()
		if strings.Count(log, "cannot get data") != 1 || strings.Count(log, "got data again") != 1 {
			t.Fatalf("log:\n%s", log)
		}
	})
}

// A frame with a suspicious result waits as a whole for the leader to confirm it.
func TestStreamedLossIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		three := `[` + strings.Repeat(oneWeb[1:len(oneWeb)-1]+",", 2) + oneWeb[1:]
		r.set(web.Path, three, 5)
		r.set(nodes.Path, `[{"Node":"n1"}]`, 5)
		r.Follow([]Request{web, nodes})
		r.frame(time.Second)
		r.change(func() {
			r.noLeader = true
			r.bodies[web.Path], r.bodies[nodes.Path] = oneWeb, `[{"Node":"n2"}]`
			r.indexes[web.Path], r.indexes[nodes.Path] = 6, 6
		})
		r.noFrame(10 * time.Minute)
		r.change(func() { r.noLeader = false })
		if f := r.frame(2 * time.Minute); len(f.Results) != 2 || f.Results[web].Items != 1 {
			t.Fatalf("frame %+v", f)
		}
		for _, mode := range r.modes {
			if mode != "stale=false consistent=true" {
				t.Errorf("asked again with %s", mode)
			}
		}
	})
}

// Long-polls do what a stream cannot carry.
func TestUnstreamableRequestsArePolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{})
		self := Request{Path: "/v1/agent/self"}
		elsewhere := Request{Path: "/v1/health/service/web", Params: "dc=dc2"}
		r.set(web.Path, oneWeb, 5)
		r.set(self.Path, `{}`, 0)
		r.Follow([]Request{web, self, elsewhere})
		if f := r.frame(2 * time.Second); len(f.Results) != 3 || f.Index != 0 {
			t.Fatalf("frame %+v", f)
		}
		if subs := r.subscriptions(); len(subs[len(subs)-1].Queries) != 1 {
			t.Fatalf("subscribed to %+v", subs)
		}
	})
}

// Without a leader stale polls replace the subscription, where they are allowed.
func TestStalePollsReplaceTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{MaxStale: time.Hour})
		r.change(func() { r.server.leaderless = true })
		r.set(web.Path, oneWeb, 5)
		r.Follow([]Request{web})
		if f := r.frame(time.Second); f.Index != 0 {
			t.Fatalf("frame %+v", f)
		}
		r.change(func() { r.server.leaderless = false })
		time.Sleep(time.Minute)
		r.set(web.Path, strings.ReplaceAll(oneWeb, "web1", "web2"), 6)
		if f := r.frame(time.Second); f.Index != 6 {
			t.Fatalf("frame %+v", f)
		}
	})
}

// Requests above the limit of a subscription are polled, which is logged; when there is space they move
// to the stream, without a frame.
func TestMoreRequestsThanASubscriptionCarries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStreamRig(t, Config{MaxStreamed: 3})
		var queries []Request
		for i := range 5 {
			q := Request{Path: fmt.Sprintf("/v1/kv/%d", i)}
			r.set(q.Path, `[{"Key":"k","Value":"MQ=="}]`, 5)
			queries = append(queries, q)
		}
		queries = append(queries, Request{Path: "/v1/agent/self"}) // always polled
		r.set("/v1/agent/self", `{}`, 1)
		got := map[Request]int{}
		take := func(n int) {
			t.Helper()
			for n > 0 {
				for q := range r.frame(5 * time.Second).Results {
					got[q]++
					n--
				}
			}
		}
		r.Follow(queries)
		take(len(queries))
		subs := r.subscriptions()
		if n := len(subs[len(subs)-1].Queries); n != 3 {
			t.Fatalf("%d queries on the stream", n)
		}
		if log := r.log.String(); strings.Count(log, "more look-ups than one subscription carries") != 1 || !strings.Contains(log, "others=2") {
			t.Errorf("log:\n%s", log)
		}
		for i, q := range queries[:5] { // every change is seen
			r.set(q.Path, `[{"Key":"k","Value":"Mg=="}]`, uint64(10+i))
			take(1)
		}
		for _, q := range queries[:5] {
			if got[q] != 2 {
				t.Errorf("%s was handed out %d times", q, got[q])
			}
		}

		r.Follow(queries[2:5])
		synctest.Wait()
		time.Sleep(time.Second)
		subs = r.subscriptions()
		if n := len(subs[len(subs)-1].Queries); n != 3 {
			t.Errorf("%d queries on the stream, though there is room", n)
		}
		asked := map[string]int{}
		for _, q := range queries[2:5] {
			asked[q.Path] = r.count(q.Path)
		}
		r.noFrame(time.Minute)
		for _, q := range queries[2:5] {
			if r.count(q.Path) != asked[q.Path] {
				t.Errorf("%s is still polled", q)
			}
			r.set(q.Path, `[{"Key":"k","Value":"Mw=="}]`, 20)
		}
		take(3)
	})
}
