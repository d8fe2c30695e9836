package handlers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/logx"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// recorder is a handler that notes what it gets, and does what it is told.
type recorder struct {
	began time.Time
	do    func(ctx context.Context, in Input) error // may be nil

	mu  sync.Mutex
	got []string // "second index data", one for each call
}

func (r *recorder) Handle(ctx context.Context, in Input) error {
	r.mu.Lock()
	r.got = append(r.got, fmt.Sprintf("%v %d %s", time.Since(r.began).Seconds(), in.Index, strings.TrimSuffix(string(in.Data), "\n")))
	r.mu.Unlock()
	if r.do != nil {
		return r.do(ctx, in)
	}
	return nil
}

// calls are what it got since the last time.
func (r *recorder) calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.got
	r.got = nil
	return out
}

func (r *recorder) want(t *testing.T, what string, calls ...string) {
	t.Helper()
	synctest.Wait()
	if got := r.calls(); !slices.Equal(got, calls) {
		t.Errorf("%s: handler got %q, want %q", what, got, calls)
	}
}

// run begins to deliver; the function it returns ends that, and gives the error.
func run(t *testing.T, r *recorder, spec Spec, dir string, once bool) (*delivery, func() error) {
	t.Helper()
	spec.Key = "k"
	if spec.Type == "" {
		spec.Type = typeKey
	}
	d := &delivery{spec: spec, id: spec.identity("here"), dir: dir, handler: r, once: once, log: logx.Discard(), wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if r.began.IsZero() {
		r.began = time.Now()
	}
	go func() { ended <- d.run(ctx) }()
	return d, func() error {
		cancel()
		return <-ended
	}
}

// state is an update of a watched key.
func state(index uint64, value string) update {
	return update{index: index, form: one, items: []item{{Key: "k", Data: []byte(value)}}}
}

// events is a list of them.
func events(index uint64, ids ...string) update {
	v := update{index: index, form: list}
	for _, id := range ids {
		v.items = append(v.items, item{Key: id, Data: []byte(id)})
	}
	return v
}

func TestHandlerRunsForChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		d, stop := run(t, r, Spec{}, "", false)
		d.put(state(1, "A"))
		r.want(t, "the first", "0 1 A")
		d.put(state(2, "A"))
		r.want(t, "the same at another index")
		d.put(state(1, "B"))
		r.want(t, "an index that goes back", "0 1 B")
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestInitial(t *testing.T) {
	for _, c := range []struct {
		initial      Initial
		before, then string
		want         []string
	}{
		{"", "", "A", []string{"0 1 A"}},
		{InitialIfChanged, "A", "A", nil},
		{InitialIfChanged, "A", "B", []string{"0 1 B"}},
		{InitialAlways, "A", "A", []string{"0 1 A"}},
		{InitialNever, "A", "B", nil},
		{InitialNever, "", "B", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir, r := t.TempDir(), &recorder{}
			if c.before != "" {
				d, stop := run(t, r, Spec{}, dir, false)
				d.put(state(1, c.before))
				r.want(t, "before", "0 1 "+c.before)
				_ = stop()
			}
			d, stop := run(t, r, Spec{Initial: c.initial}, dir, false)
			d.put(state(1, c.then))
			r.want(t, fmt.Sprintf("%+v", c), c.want...)
			d.put(state(2, "new"))
			r.want(t, "a change", "0 2 new")
			_ = stop()
		})
	}
}

func TestCursor(t *testing.T) {
	dir := t.TempDir()
	id := (&Spec{Type: typeKey, Key: "k"}).identity("here")
	m, err := openCursor(dir, id, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openCursor(dir, id, false); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second one: %v", err)
	}
	other, err := openCursor(dir, (&Spec{Type: typeKey, Key: "k2"}).identity("here"), false)
	if err != nil {
		t.Fatal(err)
	}
	other.close()
	if err := m.save(&delivered{Watch: id, Index: 7, Hash: "h"}); err != nil {
		t.Fatal(err)
	}
	m.close()
	if m, err = openCursor(dir, id, false); err != nil || m.last.Index != 7 || m.last.Hash != "h" {
		t.Fatalf("%+v %v", m, err)
	}
	m.close()
	for _, text := range []string{"{", `{"Version": 2}`} {
		if err := os.WriteFile(m.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openCursor(dir, id, false); err == nil || !strings.Contains(err.Error(), m.path) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// hold is a handler that runs for a second, unless it is stopped.
func hold(ctx context.Context, _ Input) error {
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestOverlap(t *testing.T) {
	for overlap, want := range map[Overlap][]string{
		OverlapQueue:    {"0 1 A", "1 2 B", "2 3 C"},
		OverlapCoalesce: {"0 1 A", "1 3 C"},
		OverlapKill:     {"0 1 A", "0.5 3 C"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{do: hold}
			d, stop := run(t, r, Spec{Overlap: overlap}, "", false)
			d.put(state(1, "A"))
			time.Sleep(500 * time.Millisecond)
			d.put(state(2, "B"))
			d.put(state(3, "C"))
			time.Sleep(10 * time.Second)
			r.want(t, string(overlap), want...)
			_ = stop()
		})
	}
	// A value that changes and changes back while the handler runs is no change; with a queue it is two.
	for overlap, want := range map[Overlap][]string{
		OverlapQueue:    {"0 1 A", "1 2 B", "2 3 A"},
		OverlapCoalesce: {"0 1 A"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{do: hold}
			d, stop := run(t, r, Spec{Overlap: overlap}, "", false)
			d.put(state(1, "A"))
			synctest.Wait()
			d.put(state(2, "B"))
			d.put(state(3, "A"))
			time.Sleep(10 * time.Second)
			r.want(t, string(overlap), want...)
			_ = stop()
		})
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		failing.Store(true)
		r := &recorder{}
		r.do = func(context.Context, Input) error {
			if failing.Load() {
				return &ExitError{1}
			}
			return nil
		}
		dir := t.TempDir()
		d, stop := run(t, r, Spec{}, dir, false)
		d.put(state(1, "A"))
		time.Sleep(20 * time.Second)
		r.want(t, "backoff", "0 1 A", "1 1 A", "3 1 A", "7 1 A", "15 1 A")
		d.put(state(2, "B"))
		r.want(t, "something newer", "20 2 B")
		time.Sleep(1500 * time.Millisecond)
		r.want(t, "its backoff begins anew", "21 2 B")
		_ = stop()

		d, stop = run(t, r, Spec{}, dir, false) // the restart knows that nothing was delivered
		d.put(state(2, "B"))
		r.want(t, "restart", "21.5 2 B")
		failing.Store(false)
		time.Sleep(time.Hour)
		r.want(t, "success", "22.5 2 B")
		_ = stop()
	})
}

func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := t.TempDir() + "/dead"
		r := &recorder{do: func(context.Context, Input) error { return &ExitError{3} }}
		d, stop := run(t, r, Spec{Attempts: 3, DeadLetters: file, Overlap: OverlapQueue}, "", false)
		d.put(state(1, `"A"`))
		d.put(state(2, `"B"`))
		time.Sleep(time.Hour)
		r.want(t, "attempts", `0 1 "A"`, `1 1 "A"`, `3 1 "A"`, `3 2 "B"`, `4 2 "B"`, `6 2 "B"`)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
			want := fmt.Sprintf(`"watch":"key \"k\"","index":%d,"attempts":3,"error":"exit status 3","data":"%c"}`, i+1, 'A'+i)
			if !strings.HasSuffix(line, want) {
				t.Errorf("line %s, want …%s", line, want)
			}
		}
		_ = stop()
	})
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		d, stop := run(t, r, Spec{Settle: 2 * time.Second}, "", false)
		d.put(state(1, "A"))
		time.Sleep(time.Second)
		d.put(state(2, "B"))
		time.Sleep(5 * time.Second)
		r.want(t, "quiet", "3 2 B")
		for i := range 12 { // it never is: after four times that
			d.put(state(uint64(10+i), fmt.Sprint(i)))
			time.Sleep(900 * time.Millisecond)
		}
		r.want(t, "noise", "14 18 8")
		_ = stop()
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{do: func(ctx context.Context, _ Input) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		d, stop := run(t, r, Spec{Timeout: 5 * time.Second}, "", false)
		d.put(state(1, "A"))
		time.Sleep(10 * time.Second)
		r.want(t, "a handler that hangs", "0 1 A", "6 1 A")
		_ = stop()
	})
}

func TestOnce(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		fail bool
		want []string
	}{
		{Spec{}, false, []string{"0 1 B"}},
		{Spec{}, true, []string{"0 1 B"}},
		{Spec{Initial: InitialNever}, false, nil},
		{Spec{Settle: time.Second}, false, []string{"1 1 B"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{do: func(context.Context, Input) error {
				if c.fail {
					return &ExitError{9}
				}
				return nil
			}}
			d, stop := run(t, r, c.spec, "", true)
			d.put(state(1, "B"))
			time.Sleep(time.Minute)
			r.want(t, "once", c.want...)
			err := stop()
			var code *ExitError
			if errors.As(err, &code) != c.fail {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), &recorder{}
		d, stop := run(t, r, Spec{Type: typeEvent}, dir, false)
		d.put(events(1))
		r.want(t, "nothing yet", "0 1 []")
		d.put(events(900, "a"))
		d.put(events(5, "a", "b"))
		synctest.Wait()
		d.put(events(700, "a", "b", "c"))
		d.put(events(1)) // the agent has begun anew
		d.put(events(4, "d"))
		synctest.Wait()
		seen := strings.Join(r.calls(), " ")
		for _, id := range []string{"a", "b", "c", "d"} {
			if strings.Count(seen, id) != 1 {
				t.Errorf("%s was not delivered once: %s", id, seen)
			}
		}
		_ = stop()

		d, stop = run(t, r, Spec{Type: typeEvent}, dir, false)
		d.put(events(8, "c", "d"))
		r.want(t, "restart")
		d.put(events(9, "c", "d", "e"))
		r.want(t, "what came after", "0 9 [e]")
		_ = stop()

		d, stop = run(t, r, Spec{Type: typeEvent}, dir, false)
		d.put(events(10, "d", "e", "f", "g"))
		r.want(t, "what came meanwhile", "0 10 [f,g]")
		_ = stop()
	})
}

// Events that come while a handler runs, fails or is killed are not lost.
func TestEventsAreNotDropped(t *testing.T) {
	for overlap, want := range map[Overlap][]string{
		OverlapQueue:    {"0 1 [a]", "1 2 [b]", "2 3 [c]"},
		OverlapCoalesce: {"0 1 [a]", "1 3 [b,c]"},
		OverlapKill:     {"0 1 [a]", "0.5 2 [a,b]", "0.75 3 [a,b,c]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{do: hold}
			d, stop := run(t, r, Spec{Type: typeEvent, Overlap: overlap}, "", false)
			d.put(events(1, "a"))
			time.Sleep(500 * time.Millisecond)
			d.put(events(2, "a", "b"))
			time.Sleep(250 * time.Millisecond)
			d.put(events(3, "a", "b", "c"))
			time.Sleep(10 * time.Second)
			r.want(t, string(overlap), want...)
			_ = stop()
		})
	}
}

func TestChangesOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), &recorder{}
		spec := Spec{Changes: true, KeepValues: true}
		d, stop := run(t, r, spec, dir, false)
		d.put(state(1, "1"))
		r.want(t, "first", `0 1 {"op":"add","key":"k","old":null,"new":1,"index":1}`)
		_ = stop()
		d, stop = run(t, r, spec, dir, false)
		d.put(state(1, "1"))
		r.want(t, "the same")
		d.put(state(2, "2"))
		r.want(t, "modified", `0 2 {"op":"modify","key":"k","old":1,"new":2,"index":2}`)
		d.put(update{index: 3, form: one})
		r.want(t, "deleted", `0 3 {"op":"delete","key":"k","old":2,"new":null,"index":3}`)
		_ = stop()
	})
}

// Whatever comes when, and however often a handler fails or the tool is killed: the
// last state is delivered last, every event at least once and in order of their first
// delivery, and nothing that succeeded comes again.
func TestPropertyAtLeastOnce(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			overlap := []Overlap{OverlapQueue, OverlapCoalesce, OverlapKill}[rnd.IntN(3)]
			spec := Spec{Overlap: overlap, Settle: []time.Duration{0, time.Second}[rnd.IntN(2)]}
			if rnd.IntN(2) == 0 {
				spec.Type = typeEvent
			}
			var mu sync.Mutex
			var taken []string
			r := &recorder{}
			r.do = func(ctx context.Context, in Input) error {
				mu.Lock()
				fail, wait := rnd.IntN(3) == 0, time.Duration(rnd.IntN(3000))*time.Millisecond
				mu.Unlock()
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if fail {
					return &ExitError{1}
				}
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, strings.Trim(string(in.Data), "[]\n"))
				return nil
			}
			dir := t.TempDir()
			d, stop := run(t, r, spec, dir, false)
			var ids []string
			for i := range 30 {
				mu.Lock()
				restart, pause := rnd.IntN(8) == 0, time.Duration(rnd.IntN(4000))*time.Millisecond
				mu.Unlock()
				ids = append(ids, fmt.Sprintf("e%02d", i))
				last := state(uint64(i), fmt.Sprintf("s%02d", i))
				if spec.Type == typeEvent {
					last = events(uint64(i), ids[max(0, len(ids)-20):]...)
				}
				if restart {
					_ = stop()
					d, stop = run(t, r, spec, dir, false)
				}
				d.put(last)
				time.Sleep(pause)
			}
			time.Sleep(2 * time.Hour)
			_ = stop()
			all := strings.Split(strings.Join(taken, ","), ",")
			if spec.Type != typeEvent {
				if got := all[len(all)-1]; got != "s29" || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
					t.Fatalf("seed %d %s: states taken %q", seed, overlap, all)
				}
				return
			}
			if !slices.Equal(all, ids) {
				t.Fatalf("seed %d %s: events taken %q", seed, overlap, all)
			}
		})
	}
}
