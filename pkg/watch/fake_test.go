package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// fake is an agent without a network: bodies by path, one index for all of them,
// and blocking.
type fake struct {
	mu       sync.Mutex
	bodies   map[string]string // path -> body; no entry: 404
	indexes  map[string]uint64
	fail     map[string]error // path, or "" for all
	noLeader bool
	noBlock  bool
	changed  chan struct{}
	asked    int
	askedFor map[string]int
	inFlight int
	most     int
	modes    []string // of requests that were not default
}

func newFake() *fake {
	return &fake{
		bodies: map[string]string{}, indexes: map[string]uint64{}, fail: map[string]error{},
		changed: make(chan struct{}), askedFor: map[string]int{},
	}
}

func (f *fake) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) set(path, body string, index uint64) {
	f.change(func() { f.bodies[path], f.indexes[path] = body, index })
}

func (f *fake) failing(path string, err error) {
	f.change(func() {
		if err == nil {
			delete(f.fail, path)
		} else {
			f.fail[path] = err
		}
	})
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.askedFor[path]
}

func (f *fake) Get(ctx context.Context, path string, o *client.Options, out any) (client.Meta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	f.askedFor[path]++
	f.inFlight++
	f.most = max(f.most, f.inFlight)
	defer func() { f.inFlight-- }()
	if o.Stale || o.Consistent {
		f.modes = append(f.modes, fmt.Sprintf("stale=%v consistent=%v", o.Stale, o.Consistent))
	}
	timeout := time.After(o.Wait)
	for {
		for _, p := range []string{"", path} {
			if err := f.fail[p]; err != nil {
				return client.Meta{}, err
			}
		}
		index := f.indexes[path]
		if o.Index == 0 || index > o.Index || f.noBlock || isEvents(Request{Path: path}) && index != o.Index {
			return f.answer(path, out)
		}
		changed := f.changed
		f.mu.Unlock()
		expired := false
		select {
		case <-changed:
		case <-timeout:
			expired = true
		case <-ctx.Done():
			f.mu.Lock()
			return client.Meta{}, ctx.Err()
		}
		f.mu.Lock()
		if expired {
			return f.answer(path, out)
		}
	}
}

func (f *fake) answer(path string, out any) (client.Meta, error) {
	meta := client.Meta{Index: f.indexes[path], KnownLeader: !f.noLeader}
	body, ok := f.bodies[path]
	if !ok {
		return meta, api.Errorf(404, "")
	}
	*out.(*[]byte) = []byte(body)
	return meta, nil
}

// rig runs a Watcher over a fake inside a synctest bubble.
type rig struct {
	*fake
	*Watcher
	t   *testing.T
	log *bytes.Buffer
	err error
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{fake: newFake(), t: t, log: &bytes.Buffer{}}
	cfg.Client = r.fake
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	r.Watcher = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.err = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// frame is the next frame, which must come within d.
func (r *rig) frame(d time.Duration) Frame {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	frame, err := r.Next(ctx)
	if err != nil {
		r.t.Fatalf("no frame within %s: %v", d, err)
	}
	return frame
}

func (r *rig) noFrame(d time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	if frame, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		r.t.Fatalf("frame %v, error %v; want none for %s", frame, err, d)
	}
}
