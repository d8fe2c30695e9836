package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// sequel is what one reader has seen of a key that only ever grows.
type sequel struct {
	name  string
	value atomic.Int64
}

// saw notes a value, which must not be older than the last.
func (s *sequel) saw(t *testing.T, raw []byte) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if last := s.value.Load(); err != nil || n < last {
		t.Errorf("%s reads %q after %d: %v", s.name, raw, last, err)
	}
	s.value.Store(n)
}

// pollOn follows a key by blocking reads at one agent, whatever happens to it.
func (s *sequel) pollOn(ctx context.Context, t *testing.T, a *agent, key string) {
	for index := uint64(0); ctx.Err() == nil; {
		pair, meta, err := a.KVGet(ctx, key, &client.Options{Index: index, Wait: time.Minute})
		if err != nil {
			index = 0
			rest(ctx)
			continue
		}
		if meta.Index < index {
			t.Errorf("%s: index %d after %d", s.name, meta.Index, index)
		}
		index = meta.Index
		if pair != nil {
			s.saw(t, pair.Value)
		}
	}
}

// streamFrom follows it by subscriptions, each of which goes on where the one
// before ended.
func (s *sequel) streamFrom(ctx context.Context, t *testing.T, a *agent, key string) {
	sub := api.Subscription{Queries: []api.SubscribedQuery{{ID: "a", Path: "/v1/kv/" + key}, {ID: "quiet", Path: "/v1/kv/absent"}}}
	for quiet := 0; ctx.Err() == nil; rest(ctx) {
		resp, err := a.Stream(ctx, http.MethodPost, api.SubscribePath, nil, sub)
		if err != nil {
			continue
		}
		for dec := json.NewDecoder(resp.Body); ; {
			var f api.Frame
			if dec.Decode(&f) != nil || f.Error != "" {
				break
			}
			if f.Index < sub.Index {
				t.Errorf("%s: a frame at %d after one at %d", s.name, f.Index, sub.Index)
			}
			sub.Index = f.Index
			for _, r := range f.Results {
				if r.ID == "quiet" {
					if quiet++; quiet > 1 {
						t.Errorf("%s: %d results of what never changed", s.name, quiet)
					}
					sub.Queries[1].Hash = r.Hash
					continue
				}
				sub.Queries[0].Hash = r.Hash
				var pairs []api.KVPair
				if r.Status == http.StatusOK && json.Unmarshal(r.Body, &pairs) == nil {
					s.saw(t, pairs[0].Value)
				}
			}
		}
		_ = resp.Body.Close()
	}
}

func rest(ctx context.Context) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}

// waitFor waits for what never changes, and counts how often it returns.
func waitFor(ctx context.Context, a *agent, read func(*client.Options) (client.Meta, error), woken *atomic.Int32) {
	var index uint64
	for ctx.Err() == nil {
		meta, err := read(&client.Options{Index: index, Wait: 5 * time.Minute})
		switch {
		case err != nil:
			rest(ctx)
			continue
		case index > 0:
			woken.Add(1)
		}
		index = meta.Index
	}
}

// Readers at every server, by blocking reads and by subscriptions, follow a key
// while it is written and leaders die: they miss nothing, go back never, and
// those whose data nobody writes, be it there or not, do not return.
func TestFaultFollowersMissNothing(t *testing.T) {
	c := harness.Start(t, 3, 0)
	awaitOneCluster(c, 3, 3)
	c.Leader().PutKey("quiet", "x")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var all []*sequel
	var woken atomic.Int32
	for _, a := range c.Servers() {
		poll, stream := &sequel{name: "a poll at " + a.Name}, &sequel{name: "a stream from " + a.Name}
		all = append(all, poll, stream)
		running.Go(func() { poll.pollOn(ctx, t, a, "seq") })
		running.Go(func() { stream.streamFrom(ctx, t, a, "seq") })
		for _, key := range []string{"quiet", "absent"} {
			running.Go(func() {
				waitFor(ctx, a, func(o *client.Options) (client.Meta, error) {
					_, meta, err := a.KVGet(ctx, key, o)
					return meta, err
				}, &woken)
			})
		}
		running.Go(func() {
			waitFor(ctx, a, func(o *client.Options) (client.Meta, error) {
				_, meta, err := a.HealthService(ctx, "missing", true, o)
				return meta, err
			}, &woken)
		})
	}
	n := 0
	write := func(times int) {
		for range times {
			n++
			up := c.Running()
			up[n%len(up)].AwaitPutKey("seq", fmt.Sprint(n))
			up[n%len(up)].AwaitPutKey("noise", fmt.Sprint(n))
		}
	}
	for range rounds(2, 15) {
		write(100)
		dead := c.Leader()
		dead.Kill()
		write(30)
		dead.Start()
		awaitOneCluster(c, 3, 3)
	}
	write(1)
	for _, s := range all {
		harness.Until(t, s.name+" has the last value", func(context.Context) error {
			if got := s.value.Load(); got != int64(n) {
				return fmt.Errorf("it has %d of %d", got, n)
			}
			return nil
		})
	}
	if got := woken.Load(); got > 0 {
		t.Errorf("%d blocking reads returned for what nobody wrote", got)
	}
	cancel()
	running.Wait()
}

// Readers at a client agent that ask the same wait together, and get whole
// answers, those that are too long to be kept for several among them.
func TestBlockedReadersAtAClientAgent(t *testing.T) {
	c := harness.Start(t, 1, 1)
	s, a := c.Agents[0], c.Agents[1]
	for i := range 17 {
		s.PutKey(fmt.Sprint("long/", i), strings.Repeat("x", 500<<10))
	}
	s.PutKey("short/0", "x")
	_, meta, err := a.KVList(t.Context(), "short/", nil) // the newest of the keys
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for _, prefix := range []string{"long/", "short/"} {
		for range 3 {
			readers.Go(func() {
				o := &client.Options{Index: meta.Index, Wait: time.Minute}
				pairs, _, err := a.KVList(t.Context(), prefix, o)
				if err != nil || string(pairs[0].Value) != "new" {
					t.Errorf("%s: %d pairs, %v", prefix, len(pairs), err)
				}
			})
		}
	}
	wait(t, 300*time.Millisecond)
	s.PutKey("short/0", "new")
	s.PutKey("long/0", "new")
	readers.Wait()
}
