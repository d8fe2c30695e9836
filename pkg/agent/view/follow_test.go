package view

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
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

func TestFollowerGivesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.apply(put("a", "1"))
		f := w.board.Follow()
		defer f.Close()
		f.Add("a", get("a"))
		f.Add("b", get("b"))
		f.Add("a", get("other")) // a key that is there keeps its query

		next := func() Frame {
			t.Helper()
			frame, err := f.Next(t.Context(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return frame
		}
		first := next()
		if len(first.Changed) != 2 || value(first.Changed["a"]) != "1" || !first.Changed["b"].Missing || first.Index != w.index {
			t.Fatalf("first frame %+v", first)
		}
		w.apply(put("unrelated", "x"))
		w.apply(put("b", "2"))
		if frame := next(); len(frame.Changed) != 1 || value(frame.Changed["b"]) != "2" || frame.Index != w.index {
			t.Fatalf("frame %+v, want b alone at %d", frame, w.index)
		}
		f.Drop("b")
		w.apply(put("b", "3"))
		start := time.Now()
		if frame := next(); len(frame.Changed) != 0 || time.Since(start) != time.Hour || frame.Index != w.index {
			t.Fatalf("frame %+v after %v, want an empty one after the hour", frame, time.Since(start))
		}
		f.Close()
		if n := w.board.Waiting(); n != 0 {
			t.Errorf("%d are still registered", n)
		}
	})
}

func TestFollowerEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	f := w.board.Follow()
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Next(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}

// A transaction over fifty keys is in a frame as a whole or not at all, also
// while the set of queries grows.
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
			f := w.board.Follow()
			defer f.Close()
			seen := map[string]string{}
			for i := 0; ; i++ {
				for n := range keys {
					if i > 2 || rand.IntN(2) == 0 {
						f.Add(fmt.Sprint("k/", n), get(fmt.Sprint("k/", n)))
					}
				}
				frame, err := f.Next(ctx, time.Minute)
				if err != nil {
					return
				}
				for k, ans := range frame.Changed {
					seen[k] = value(ans)
				}
				for k, v := range seen {
					if v != seen[anyKey(seen)] {
						t.Errorf("at %d: %s is %q, %s is %q", frame.Index, k, v, anyKey(seen), seen[anyKey(seen)])
						return
					}
				}
				if len(seen) == keys && seen["k/0"] == fmt.Sprint(rounds) {
					return
				}
			}
		})
	}
	for i := 1; i <= rounds; i++ {
		w.apply(all(fmt.Sprint(i)), put("noise", fmt.Sprint(i)))
	}
	followers.Wait() // each ends when it has seen the last round
}

func anyKey(m map[string]string) string {
	for k := range m {
		return k
	}
	return ""
}
