package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is views over a real state that commands are applied to directly.
type world struct {
	t     testing.TB
	store *state.Store
	views *Views
	index uint64
}

func newWorld(t testing.TB) *world {
	store := state.New()
	return &world{t: t, store: store, views: New(store.Snapshot()), index: 1}
}

func (w *world) apply(cmds ...state.Command) {
	w.t.Helper()
	var entries []state.Entry
	for _, c := range cmds {
		data, err := state.Encode(c, time.Now(), state.Level)
		if err != nil {
			w.t.Fatal(err)
		}
		w.index++
		entries = append(entries, state.Entry{Index: w.index, Data: data})
	}
	results, touched := w.store.ApplyBatch(entries)
	for _, r := range results {
		if err, ok := r.(error); ok {
			w.t.Fatal(err)
		}
	}
	w.views.Publish(w.store.Snapshot(), touched)
}

func put(key, value string) state.Command {
	return &state.KV{Op: state.KVSet, Entry: api.KVPair{Key: key, Value: []byte(value)}}
}

func del(key string) state.Command {
	return &state.KV{Op: state.KVDelete, Entry: api.KVPair{Key: key}}
}

func get(key string) Query {
	return func(s *state.Snapshot) Answer {
		pair, meta := s.KVGet(key)
		return Answer{Value: pair, Meta: meta, Missing: pair == nil}
	}
}

func listing(prefix string) Query {
	return func(s *state.Snapshot) Answer {
		pairs, meta := s.KVList(prefix)
		return Answer{Value: pairs, Meta: meta, Missing: len(pairs) == 0}
	}
}

func passing(name string) Query {
	return func(s *state.Snapshot) Answer {
		nodes, meta := s.HealthService(name, state.Select{Passing: true})
		return Answer{Value: nodes, Meta: meta}
	}
}

func instance(node, service, status string) state.Command {
	return &state.Register{
		Node:    &api.Node{Node: node, Address: "10.0.0.1"},
		Service: &api.NodeService{ID: service, Service: service, Port: 80},
		Checks:  []*api.HealthCheck{{Node: node, CheckID: "c:" + service, Name: "c", ServiceID: service, Status: status}},
	}
}

func TestReadsAtOnceBelowTheIndex(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	for _, min := range []uint64{0, 1} {
		ans, err := w.views.Read(context.Background(), "", get("a"), min, time.Hour)
		if err != nil || string(ans.Value.(*api.KVPair).Value) != "1" {
			t.Fatalf("min %d: %v, %v", min, ans, err)
		}
	}
}

// blocked starts a read that has to wait, and hands out what it returns with.
func (w *world) blocked(ctx context.Context, q Query, wait time.Duration) <-chan Answer {
	first, err := w.views.Read(ctx, "", q, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	out := make(chan Answer, 1)
	go func() {
		if ans, err := w.views.Read(ctx, "", q, first.Meta.Index, wait); err == nil {
			out <- ans
		}
		close(out)
	}()
	synctest.Wait()
	return out
}

func TestWakesForItsOwnChangesOnly(t *testing.T) {
	for name, c := range map[string]struct {
		q         Query
		unrelated []state.Command
		own       state.Command
	}{
		"key":         {get("a/b"), []state.Command{put("a", "x"), put("a/b/c", "x"), put("b", "x")}, put("a/b", "2")},
		"missing key": {get("no"), []state.Command{put("non", "x"), put("a", "x"), del("a")}, put("no", "2")},
		"prefix":      {listing("a/"), []state.Command{put("a", "x"), put("b/a/", "x")}, put("a/z", "2")},
		"deletion":    {listing("a/"), []state.Command{put("b", "x"), del("b")}, del("a/b")},
		"service": {passing("web"), []state.Command{instance("n9", "db", "passing"), put("web", "x")},
			instance("n1", "web", "critical")},
		"missing service": {passing("none"), []state.Command{instance("n1", "db", "passing"), instance("n3", "other", "critical")},
			instance("n2", "none", "passing")},
		// An instance in warning and one in critical are the same nothing to who
		// asks for those that pass.
		"filtered out": {passing("sick"), []state.Command{instance("n5", "sick", "warning")}, instance("n5", "sick", "passing")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.apply(put("a/b", "1"), instance("n1", "web", "passing"), instance("n5", "sick", "critical"))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := w.blocked(ctx, c.q, time.Hour)
				for _, cmd := range c.unrelated {
					w.apply(cmd)
					synctest.Wait()
					select {
					case ans := <-done:
						t.Fatalf("woke for %+v with %+v", cmd, ans)
					default:
					}
				}
				w.apply(c.own)
				ans, ok := <-done
				if !ok || ans.Meta.Index != w.index {
					t.Fatalf("answer %+v, want one at index %d", ans, w.index)
				}
				if n := w.views.Waiting(); n != 0 {
					t.Errorf("%d readers are still registered", n)
				}
			})
		})
	}
}

func TestTimeoutGivesTheCurrentAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.apply(put("a", "1"))
		done := w.blocked(t.Context(), get("a"), time.Minute)
		start := time.Now()
		ans := <-done
		if took := time.Since(start); took != time.Minute {
			t.Errorf("took %v, want a minute", took)
		}
		if ans.Meta.Index != w.index {
			t.Errorf("index %d, want %d", ans.Meta.Index, w.index)
		}
	})
}

func TestEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.views.Read(ctx, "", get("a"), w.index, time.Hour); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if n := w.views.Waiting(); n != 0 {
		t.Errorf("%d readers are still registered", n)
	}
}

func TestRestoreWakesEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.apply(put("a", "1"))
		var old bytes.Buffer
		if err := w.store.Snapshot().Write(&old); err != nil {
			t.Fatal(err)
		}
		w.apply(put("a", "2"), put("b", "1"))
		done := w.blocked(t.Context(), get("a"), time.Hour)
		if err := w.store.Restore(&old); err != nil {
			t.Fatal(err)
		}
		w.views.PublishAll(w.store.Snapshot())
		if ans := <-done; string(ans.Value.(*api.KVPair).Value) != "1" {
			t.Fatalf("got %+v, want the restored value", ans.Value)
		}
	})
}

// Whoever follows a key or a prefix gets its last state, with indexes that only
// rise, and nothing twice, whatever else is written.
func TestNothingMissedNothingTwice(t *testing.T) {
	w := newWorld(t)
	queries := []Query{get("k/1"), get("k/2"), listing("k/"), listing("k/1"), listing("")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers sync.WaitGroup
	for _, q := range queries {
		readers.Go(func() { follow(ctx, t, w.views, q) })
	}
	readers.Go(func() {
		if ans, err := w.views.Read(ctx, "", get("never"), 1, time.Hour); err == nil {
			t.Errorf("the reader of a key that never was got %+v", ans)
		}
	})
	for i := range 2000 {
		key := fmt.Sprintf("k/%d", rand.IntN(30))
		if rand.IntN(4) == 0 {
			w.apply(del(key))
		} else {
			w.apply(put(key, fmt.Sprint(i)))
		}
	}
	// The followers return when they have seen these.
	w.apply(put("k/1", "end"), put("k/2", "end"))
	w.apply(put("k/1end", "end"))
	cancelWhen := func() bool { return w.views.Waiting() == len(queries)+1 }
	for !cancelWhen() {
		if _, err := w.views.Read(ctx, "", get("k/1"), w.index, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	readers.Wait()
}

func follow(ctx context.Context, t *testing.T, b *Views, q Query) {
	var last Answer
	for {
		ans, err := b.Read(ctx, "", q, last.Meta.Index, time.Hour)
		if err != nil {
			if want := q(b.Snapshot()); want.Meta.Index != last.Meta.Index || changed(want, last) {
				t.Errorf("ended with %+v at %d, missed %+v at %d", last.Value, last.Meta.Index, want.Value, want.Meta.Index)
			}
			return
		}
		if ans.Meta.Index <= last.Meta.Index {
			t.Errorf("index %d after %d", ans.Meta.Index, last.Meta.Index)
		}
		last = ans
	}
}

// A write costs nothing extra for readers of other things.
func BenchmarkWakeAmongQuietReaders(b *testing.B) {
	for _, quiet := range []int{0, 1000} {
		b.Run(fmt.Sprint(quiet), func(b *testing.B) {
			w := newWorld(b)
			ctx, cancel := context.WithCancel(b.Context())
			var readers sync.WaitGroup
			for i := range quiet {
				readers.Go(func() { _, _ = w.views.Read(ctx, "", get(fmt.Sprint("quiet/", i)), 1, time.Hour) })
			}
			for w.views.Waiting() < quiet {
				_, _ = w.views.Read(ctx, "", get("x"), 1, time.Millisecond)
			}
			for i := 0; b.Loop(); i++ {
				w.apply(put("a", fmt.Sprint(i)))
			}
			cancel()
			readers.Wait()
		})
	}
}

// Where the oldest tombstones are dropped, the index of what is not there rises to
// the floor, in answers that are read again; one that is kept has the lower index
// until something it was read from changes. A reader of both waits for the next
// change all the same, and misses none: it is above either.
func TestFloorUnderAnswersThatAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var many []state.Command
		for i := range state.MaxTombstones + 1 {
			many = append(many, put(fmt.Sprintf("x/%d", i), ""))
		}
		w.apply(many...)
		kept := func(min uint64) Answer {
			ans, err := w.views.Read(t.Context(), "gone", get("gone"), min, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			return ans
		}
		before := kept(0).Meta.Index
		w.apply(&state.KV{Op: state.KVDeleteTree, Entry: api.KVPair{Key: "x/"}})
		fresh, err := w.views.Read(t.Context(), "", get("gone"), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if floor := fresh.Meta.Index; floor != w.index || kept(0).Meta.Index != before {
			t.Fatalf("the floor is %d, the answers have %d and %d; want the floor at %d and the kept answer at %d", floor, fresh.Meta.Index, kept(0).Meta.Index, w.index, before)
		}
		for _, min := range []uint64{before, fresh.Meta.Index} {
			if ans := kept(min); !ans.Missing {
				t.Errorf("after %d, nothing has happened: %+v", min, ans)
			}
		}
		got := make(chan Answer, 2)
		for _, min := range []uint64{before, fresh.Meta.Index} {
			go func() {
				ans, _ := w.views.Read(t.Context(), "gone", get("gone"), min, time.Hour)
				got <- ans
			}()
		}
		synctest.Wait()
		if len(got) > 0 {
			t.Fatalf("returned for nothing: %+v", <-got)
		}
		w.apply(put("gone", "back"))
		for range 2 {
			if ans := <-got; value(ans) != "back" || ans.Meta.Index != w.index {
				t.Errorf("got %+v", ans)
			}
		}
	})
}
