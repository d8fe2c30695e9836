package handlers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/watch"
)

// keys is an agent that has keys, and answers long-polls for them.
type keys struct {
	mu      sync.Mutex
	index   map[string]uint64
	changed chan struct{}
	asked   map[string]int
	down    bool
}

func newKeys() *keys {
	return &keys{index: map[string]uint64{}, asked: map[string]int{}, changed: make(chan struct{})}
}

// set writes a key; its value is its index.
func (k *keys) set(key string, index uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index[key] = index
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *keys) Get(ctx context.Context, path string, o *client.Options, out any) (client.Meta, error) {
	key := strings.TrimPrefix(path, "/v1/kv/")
	timeout := time.After(max(o.Wait, time.Millisecond))
	k.mu.Lock()
	k.asked[key]++
	k.mu.Unlock()
	for {
		k.mu.Lock()
		index, there := k.index[key]
		changed, down := k.changed, k.down
		k.mu.Unlock()
		meta := client.Meta{Index: max(index, 1), KnownLeader: true}
		if down {
			return meta, errors.New("connection refused")
		}
		if meta.Index > o.Index {
			*out.(*[]byte) = fmt.Appendf(nil, `[{"Key":%q,"ModifyIndex":%d}]`, key, index)
			if !there {
				return meta, api.Errorf(404, "")
			}
			return meta, nil
		}
		select {
		case <-changed:
		case <-timeout:
			o.Index = 0
		case <-ctx.Done():
			return meta, ctx.Err()
		}
	}
}

func (k *keys) EventAck(context.Context, string, string, *client.Options) error { return nil }

// runSet runs a Set over k whose handler is r.
func runSet(t *testing.T, k *keys, r *recorder, cfg Config, specs ...Spec) (*Set, func() error) {
	t.Helper()
	cfg.Client = func(string) (Client, error) { return k, nil }
	cfg.Logger, cfg.Handler = logx.Discard(), r
	s := New(cfg, specs)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if r.began.IsZero() {
		r.began = time.Now()
	}
	go func() { ended <- s.Run(ctx) }()
	return s, func() error {
		cancel()
		return <-ended
	}
}

func keySpec(key string) Spec { return Spec{Type: typeKey, Key: key} }

// lastOf is the index that the handler got last, of so many calls.
func (r *recorder) lastOf(t *testing.T, calls int) string {
	t.Helper()
	synctest.Wait()
	got := r.calls()
	if len(got) != calls {
		t.Fatalf("%d calls, want %d: %q", len(got), calls, got)
	}
	if calls == 0 {
		return ""
	}
	return strings.Fields(got[calls-1])[1]
}

func TestSetReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKeys(), &recorder{}
		k.set("a", 5)
		s, stop := runSet(t, k, r, Config{}, keySpec("a"), keySpec("b"))
		time.Sleep(time.Second)
		r.lastOf(t, 2)
		asked := k.asked["a"]
		// The same watches again, a new one, and one twice: only the new one runs.
		for range 20 {
			if err := s.Replace([]Spec{keySpec("a"), keySpec("b"), keySpec("c"), keySpec("c")}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := r.lastOf(t, 1); got != "1" {
			t.Errorf("c was told of index %s", got)
		}
		if k.asked["a"] != asked {
			t.Errorf("a was asked for %d times more", k.asked["a"]-asked)
		}
		// A new watch of known data gets it at once, without a request.
		other := keySpec("a")
		other.Changes = true
		if err := s.Replace([]Spec{keySpec("a"), other}); err != nil {
			t.Fatal(err)
		}
		if got := r.lastOf(t, 1); got != "5" || k.asked["a"] != asked {
			t.Errorf("index %s, %d requests", got, k.asked["a"]-asked)
		}
		k.set("a", 6)
		k.set("b", 6)
		if got := r.lastOf(t, 2); got != "6" {
			t.Errorf("index %s", got)
		}
		if err := s.Replace([]Spec{{Type: typeKey, Key: "a", Args: []string{"true"}}, {Type: typeKey, Key: "z", HTTP: &HTTP{Path: "http://h"}, Args: []string{""}}}); err != nil {
			t.Error(err)
		}
		if err := s.Replace(nil); err != nil {
			t.Error(err)
		}
		k.set("a", 7)
		r.lastOf(t, 0)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A changed watch goes on at its cursor: nothing is delivered again, and the cursor is
// unlocked as soon as the handler of the one before has ended.
func TestSetChangesAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKeys(), &recorder{}
		k.set("a", 5)
		s, stop := runSet(t, k, r, Config{Dir: t.TempDir()}, keySpec("a"))
		time.Sleep(time.Second)
		r.lastOf(t, 1)
		slow := keySpec("a")
		slow.Settle = time.Second
		if err := s.Replace([]Spec{slow}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.lastOf(t, 0)
		k.set("a", 6)
		r.lastOf(t, 0)
		time.Sleep(2 * time.Second)
		r.lastOf(t, 1)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestSetOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKeys(), &recorder{}
		_, stop := runSet(t, k, r, Config{Once: true}, keySpec("a"), keySpec("b"))
		time.Sleep(time.Second)
		r.lastOf(t, 2)
		k.set("a", 9)
		time.Sleep(time.Second)
		r.lastOf(t, 0)
		if err := stop(); err != nil {
			t.Error(err)
		}
		r.do = func(context.Context, Input) error { return &ExitError{4} }
		_, stop = runSet(t, k, r, Config{Once: true}, keySpec("a"), keySpec("b"))
		time.Sleep(time.Second)
		var exit *ExitError
		if err := stop(); !errors.As(err, &exit) || exit.Code != 4 {
			t.Errorf("%v", err)
		}
	})
}

func TestSetGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKeys(), &recorder{}
		k.down = true
		_, stop := runSet(t, k, r, Config{Retry: watch.Retry{Attempts: 3}}, keySpec("a"))
		time.Sleep(time.Minute)
		if err := stop(); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%v", err)
		}
	})
}

// A watch that cannot run ends the Set, or, with Isolate, only itself.
func TestSetIsolates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		held, err := openCursor(dir, identityOf("a"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer held.close()
		k, r := newKeys(), &recorder{}
		_, stop := runSet(t, k, r, Config{Dir: dir}, keySpec("a"), keySpec("b"))
		time.Sleep(time.Second)
		if err := stop(); !errors.Is(err, ErrInUse) {
			t.Errorf("%v", err)
		}
		r.calls()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		held, err = openCursor(dir, identityOf("a"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer held.close()
		_, stop = runSet(t, k, r, Config{Dir: dir, Isolate: true}, keySpec("a"), keySpec("b"))
		time.Sleep(time.Second)
		r.lastOf(t, 1)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func identityOf(key string) identity {
	s := keySpec(key)
	return s.identity("")
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := newKeys(), &recorder{}
		r.do = func(_ context.Context, in Input) error {
			if in.Index == 2 {
				return &ExitError{3}
			}
			return nil
		}
		s, stop := runSet(t, k, r, Config{}, keySpec("a"), keySpec("b"))
		time.Sleep(time.Second)
		k.set("a", 2)
		synctest.Wait()
		got := s.Status()
		if a := got.Watches[0]; a.Watch != `key "a"` || a.State != StateFailed || a.Waiting != 1 || a.Runs != 2 || a.Failures != 1 || a.Index != 1 || a.LastError != "exit status 3" {
			t.Errorf("%+v", a)
		}
		if b := got.Watches[1]; b.State != StateIdle || b.Waiting != 0 || b.Runs != 1 || b.DeliveredAt == nil || b.LastError != "" {
			t.Errorf("%+v", b)
		}
		for _, line := range []string{`muster_watch_handler_runs_total{watch="key \"a\""} 2`, `muster_watch_waiting{watch="key \"a\""} 1`, `muster_watch_failing{watch="key \"b\""} 0`, `muster_watch_queries_failing 0`} {
			if !strings.Contains(got.Metrics(), "\n"+line+"\n") {
				t.Errorf("no line %s in\n%s", line, got.Metrics())
			}
		}
		_ = stop()
	})
}
