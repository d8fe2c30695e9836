package view

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
)

func (w *world) read(key string, q Query) Answer {
	w.t.Helper()
	ans, err := w.views.Read(context.Background(), key, q, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return ans
}

func TestUnchangedAnswersAreShared(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a/1", "x"))
	asked := 0
	q := func(s *state.Snapshot) Answer { asked++; return listing("a/")(s) }

	first := w.read("a/", q)
	keep(t, first, "bytes")
	w.apply(put("b", "x"))
	if again := w.read("a/", q); asked != 1 || kept(again) != "bytes" {
		t.Errorf("asked %d times for what did not change, bytes %q", asked, kept(again))
	}
	w.apply(put("a/2", "x"))
	if fresh := w.read("a/", q); asked != 2 || kept(fresh) != "" || fresh.Meta.Index != w.index {
		t.Errorf("asked %d times after a change; %+v", asked, fresh)
	}
	w.read("", q)
	w.read("", q)
	if asked != 4 {
		t.Errorf("without a key it was asked %d times", asked-2)
	}
}

// The index may move while the answer stays: then its bytes do too.
func TestEncodingOutlivesAnUnseenChange(t *testing.T) {
	w := newWorld(t)
	w.apply(instance("n1", "sick", "critical"))
	first := w.read("sick", passing("sick"))
	keep(t, first, "[]")
	w.apply(instance("n1", "sick", "warning"))
	if again := w.read("sick", passing("sick")); again.Meta.Index <= first.Meta.Index || kept(again) == "" {
		t.Errorf("index %d after %d, bytes %q", again.Meta.Index, first.Meta.Index, kept(again))
	}
}

// Whatever is written meanwhile, a shared answer is never older than what was
// written before it was asked for.
func TestSharedAnswersAreNeverOld(t *testing.T) {
	w := newWorld(t)
	var written [4]atomic.Int64 // value of each key that is surely there
	for i := range written {
		w.apply(put(fmt.Sprint("k/", i), "0"))
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := rand.IntN(len(written))
				key := fmt.Sprint("k/", i)
				least := written[i].Load()
				ans, err := w.views.Read(context.Background(), key, get(key), 0, 0)
				if err != nil {
					t.Error(err)
					return
				}
				var got int64
				fmt.Sscan(value(ans), &got)
				if got < least {
					t.Errorf("%s is %d although %d was written before", key, got, least)
					return
				}
			}
		})
	}
	for n := int64(1); n <= 3000; n++ {
		i := rand.IntN(len(written))
		w.apply(put(fmt.Sprint("k/", i), fmt.Sprint(n)))
		written[i].Store(n)
	}
	close(stop)
	readers.Wait()
	for i := range written {
		key := fmt.Sprint("k/", i)
		if shared, plain := w.read(key, get(key)), get(key)(w.views.Snapshot()); !reflect.DeepEqual(shared.Value, plain.Value) {
			t.Errorf("%s: shared %v, plain %v", key, shared.Value, plain.Value)
		}
	}
}

// Many who wait for one thing cost one query for each change of it.
func TestWaitersShareOneQuery(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "0"))
	var asked atomic.Int32
	q := func(s *state.Snapshot) Answer { asked.Add(1); return get("a")(s) }
	const waiting = 100
	var readers sync.WaitGroup
	for range waiting {
		readers.Go(func() {
			if _, err := w.views.Read(t.Context(), "a", q, w.index, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	for w.views.Waiting() < waiting {
		_, _ = w.views.Read(t.Context(), "", get("x"), 1, time.Millisecond)
	}
	before := asked.Load()
	w.apply(put("a", "1"))
	readers.Wait()
	if n := asked.Load() - before; n != 1 {
		t.Errorf("%d waiters cost %d queries", waiting, n)
	}
}

func TestSharedAnswersAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range MaxShared + 100 {
		key := fmt.Sprint("k/", i)
		w.read(key, get(key))
	}
	vs := &w.views.cache
	if n := len(vs.byKey); n != MaxShared || len(vs.index.all) != MaxShared || vs.unused.Len() != MaxShared {
		t.Errorf("%d views, %d watches are kept, the limit is %d", n, len(vs.index.all), MaxShared)
	}
	big := strings.Repeat("x", MaxSharedBytes/2)
	f := w.views.Follow() // the encodings of a view with waiters are dropped too
	for i := range 4 {
		key := fmt.Sprint("big/", i)
		f.Add(key, key, get(key))
		keep(t, w.read(key, get(key)), big)
	}
	if vs.bytes > MaxSharedBytes {
		t.Errorf("%d bytes are kept", vs.bytes)
	}
	if kept(w.read("big/0", get("big/0"))) != "" || kept(w.read("big/3", get("big/3"))) != big {
		t.Error("not the oldest bytes were dropped")
	}
	f.Close()
	for key := range vs.byKey {
		w.apply(put(key, "x"))
		w.read(key, get(key))
		break
	}
	for i := range MaxShared + 100 {
		key := fmt.Sprint("other/", i)
		w.read(key, get(key))
	}
	if vs.bytes != 0 || vs.forms.Len() != 0 {
		t.Errorf("%d bytes of %d views are counted, and their views are gone", vs.bytes, vs.forms.Len())
	}
}

// keep keeps bytes as the body of an answer.
func keep(t testing.TB, ans Answer, body string) {
	t.Helper()
	if _, err := ans.Encoding.Make(Body, func() (Encoded, error) { return Encoded{Body: []byte(body)}, nil }); err != nil {
		t.Fatal(err)
	}
}

// kept is the body that is kept of an answer, "" for none.
func kept(ans Answer) string {
	if e := ans.Encoding.made[Body].Load(); e != nil {
		return string(e.Body)
	}
	return ""
}

func BenchmarkSharedRead(b *testing.B) {
	w := newWorld(b)
	for i := range 100 {
		w.apply(instance(fmt.Sprint("n", i), "web", "passing"))
	}
	for _, key := range []string{"", "web"} {
		b.Run("key="+key, func(b *testing.B) {
			for b.Loop() {
				w.read(key, passing("web"))
			}
		})
	}
}
