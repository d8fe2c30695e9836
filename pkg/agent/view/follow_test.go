package view

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

func value(a Answer) string {
	if p := a.Value.(*api.KVPair); p != nil {
		return string(p.Value)
	}
	return ""
}

// next is the next frame as a map of values; those that are missing are "".
func next(t *testing.T, f *Follower) (uint64, map[string]string) {
	t.Helper()
	index, changes, err := f.Next(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range changes {
		out[c.Name] = value(c.Answer)
	}
	return index, out
}

func TestFollowerGivesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.apply(put("a", "1"))
		f := w.views.Follow()
		defer f.Close()
		f.Add("a", "a", get("a"))
		f.Add("b", "", get("b")) // not shared, and reads the same

		if index, got := next(t, f); len(got) != 2 || got["a"] != "1" || got["b"] != "" || index != w.index {
			t.Fatalf("first frame %v at %d", got, index)
		}
		w.apply(put("unrelated", "x"))
		w.apply(put("b", "2"))
		if index, got := next(t, f); len(got) != 1 || got["b"] != "2" || index != w.index {
			t.Fatalf("frame %v at %d, want b alone at %d", got, index, w.index)
		}
		f.Add("c", "c", get("c"))
		if _, got := next(t, f); len(got) != 1 {
			t.Fatalf("frame %v, want the new query alone", got)
		}
		w.apply(put("unrelated", "y"))
		start := time.Now()
		if index, got := next(t, f); len(got) != 0 || time.Since(start) != time.Hour || index != w.index {
			t.Fatalf("frame %v after %v, want an empty one after the hour", got, time.Since(start))
		}
		f.Close()
		if n := w.views.Waiting(); n != 0 {
			t.Errorf("%d are still registered", n)
		}
		if vs := &w.views.cache; len(vs.index.all) != len(vs.byKey) {
			t.Errorf("%d views are watched, %d are kept", len(vs.index.all), len(vs.byKey))
		}
	})
}

func TestFollowerEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	f := w.views.Follow()
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Next(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}

// A transaction over fifty keys is in a frame as a whole or not at all, also
// while the set of queries grows, and however fast the writes are.
func TestFollowerNeverSplitsATransaction(t *testing.T) {
	const keys, rounds = 50, 300
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := func(v string) *state.Txn {
		txn := &state.Txn{}
		for i := range keys {
			txn.Ops = append(txn.Ops, &api.TxnOp{KV: &api.TxnKVOp{Verb: "set", Key: fmt.Sprint("k/", i), Value: []byte(v)}})
		}
		return txn
	}
	w.apply(all("0"))
	var followers sync.WaitGroup
	for range 4 {
		followers.Go(func() {
			f := w.views.Follow()
			defer f.Close()
			seen := map[string]string{}
			for added := 0; ; {
				for ; added < keys && (added == 0 || rand.IntN(4) > 0); added++ {
					key := fmt.Sprint("k/", added)
					f.Add(key, key, get(key))
				}
				index, changes, err := f.Next(ctx, time.Minute)
				if err != nil {
					return
				}
				for _, c := range changes {
					seen[c.Name] = value(c.Answer)
				}
				for k, v := range seen {
					if v != seen["k/0"] {
						t.Errorf("at %d: %s is %q, k/0 is %q", index, k, v, seen["k/0"])
						return
					}
				}
				if len(seen) == keys && seen["k/0"] == fmt.Sprint(rounds) {
					return
				}
				if seen["k/0"] == fmt.Sprint(rounds) && added < keys {
					key := fmt.Sprint("k/", added)
					f.Add(key, key, get(key))
					added++
				}
			}
		})
	}
	for i := 1; i <= rounds; i++ {
		w.apply(all(fmt.Sprint(i)), put("noise", fmt.Sprint(i)))
	}
	followers.Wait() // each ends when it has seen the last round
}

// A state that moves on with every question does not keep a frame from being
// made, nor those who wait for the same from their answers.
func TestFramesAreMadeUnderEndlessWrites(t *testing.T) {
	w := newWorld(t)
	w.apply(put("k/1", "0"), put("k/2", "0"))
	var n atomic.Int64
	restless := func(key string) Query {
		return func(s *state.Snapshot) Answer {
			if v := n.Add(1); v < 1000 {
				w.apply(put("k/1", fmt.Sprint(v)), put("k/2", fmt.Sprint(v)))
			}
			return get(key)(s)
		}
	}
	f := w.views.Follow()
	defer f.Close()
	f.Add("1", "1", restless("k/1"))
	f.Add("2", "2", restless("k/2"))
	_, got := next(t, f)
	if n.Load() > 3*maxRounds || got["1"] != got["2"] {
		t.Errorf("frame %v after %d questions", got, n.Load())
	}
}

// However many follow a query, a change costs one query, and a view that is not
// read any more is let go.
func TestFollowersShareOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.apply(put("a", "0"))
		var asked atomic.Int32
		q := func(s *state.Snapshot) Answer { asked.Add(1); return get("a")(s) }
		ctx, cancel := context.WithCancel(t.Context())
		var got atomic.Int32
		for range 50 {
			go func() {
				f := w.views.Follow()
				defer f.Close()
				f.Add("a", "a", q)
				for {
					_, changes, err := f.Next(ctx, time.Hour)
					if err != nil {
						return
					}
					got.Add(int32(len(changes)))
				}
			}()
			go func() { _, _ = w.views.Read(ctx, "a", q, w.index, time.Hour) }()
		}
		synctest.Wait()
		for i := range 3 {
			before, had := asked.Load(), got.Load()
			w.apply(put("a", fmt.Sprint("new", i)))
			synctest.Wait()
			if n := asked.Load() - before; n != 1 {
				t.Errorf("a change cost %d queries", n)
			}
			if n := got.Load() - had; n != 50 {
				t.Errorf("%d of 50 followers got it", n)
			}
		}
		cancel()
		synctest.Wait()
		if v := w.views.cache.byKey["a"]; w.views.Waiting() != 0 || v.use == nil || v.polled != nil || v.followed != nil {
			t.Errorf("%d wait, the view is %+v", w.views.Waiting(), v)
		}
	})
}
