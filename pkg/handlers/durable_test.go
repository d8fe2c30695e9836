package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
)

// eventLog is an agent with durable events.
type eventLog struct {
	mu      sync.Mutex
	events  []*api.DurableEvent
	changed chan struct{}
	since   []uint64 // what was asked for, each once
	acked   []string
	refuse  bool // acknowledgements fail
}

func (l *eventLog) fire(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, &api.DurableEvent{Index: index, ID: fmt.Sprint(index), Name: "n"})
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *eventLog) Get(ctx context.Context, _ string, o *client.Options, out any) (client.Meta, error) {
	since, _ := strconv.ParseUint(o.Params.Get("since"), 10, 64) // none is 0
	for timeout := time.After(max(o.Wait, time.Millisecond)); ; {
		l.mu.Lock()
		if !slices.Contains(l.since, since) {
			l.since = append(l.since, since)
		}
		index, list, changed := uint64(1), []*api.DurableEvent{}, l.changed
		for _, e := range l.events {
			if index = e.Index; e.Index > since {
				list = append(list, e)
			}
		}
		l.mu.Unlock()
		if index > o.Index {
			body, err := json.Marshal(list)
			*out.(*[]byte) = body
			return client.Meta{Index: index, KnownLeader: true}, err
		}
		select {
		case <-changed:
		case <-timeout:
			o.Index = 0
		case <-ctx.Done():
			return client.Meta{}, ctx.Err()
		}
	}
}

func (l *eventLog) EventAck(_ context.Context, id, node string, _ *client.Options) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse || node != "" {
		return errors.New("no leader")
	}
	l.acked = append(l.acked, id)
	return nil
}

// indexes are those of the events in what a handler got.
func indexes(data []byte) (out []uint64) {
	var list []api.DurableEvent
	if err := json.Unmarshal(data, &list); err != nil {
		panic(err)
	}
	for _, e := range list {
		out = append(out, e.Index)
	}
	return out
}

// Whatever stops, and however often the handler fails: each event is handled at least
// once, in order, and again only after a failed run; and each is acknowledged.
func TestDurableEventsAreNeverMissed(t *testing.T) {
	for seed := range uint64(2) {
		for _, overlap := range []Overlap{OverlapCoalesce, OverlapQueue} {
			synctest.Test(t, func(t *testing.T) { neverMissed(t, seed, overlap) })
		}
	}
}

func neverMissed(t *testing.T, seed uint64, overlap Overlap) {
	rnd, own := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)) // own is the handler's
	agent, dir := &eventLog{changed: make(chan struct{})}, t.TempDir()
	var taken []uint64
	ended := func() {}
	handler := func(ctx context.Context, in Input) error {
		time.Sleep(time.Duration(own.IntN(50)) * time.Millisecond)
		if own.IntN(3) == 0 {
			return errors.New("exit code 1")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		taken = append(taken, indexes(in.Data)...)
		if n := len(taken); n > 0 && in.Index != taken[n-1] {
			t.Errorf("index %d for %s", in.Index, in.Data)
		}
		return nil
	}
	spec := Spec{Type: typeEvent, Name: "n", Durable: true, Overlap: overlap}
	start := func() {
		s := New(Config{
			Client: func(string) (Client, error) { return agent, nil }, Logger: logx.Discard(), Dir: dir,
			Handler: &recorder{do: handler},
		}, []Spec{spec})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		ended = func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	start()
	const events = 300
	for i := range uint64(events) {
		agent.fire(10 + 3*i)
		time.Sleep(time.Duration(rnd.IntN(40)) * time.Millisecond)
		if rnd.IntN(60) == 0 {
			ended()
			agent.mu.Lock()
			agent.refuse = rnd.IntN(2) == 0
			agent.mu.Unlock()
			start()
		}
	}
	agent.mu.Lock()
	agent.refuse = false
	agent.mu.Unlock()
	time.Sleep(2 * time.Hour)
	ended()
	if !slices.IsSorted(taken) || len(slices.Compact(slices.Clone(taken))) != events {
		t.Errorf("%d of %d events taken, sorted %v", len(slices.Compact(slices.Clone(taken))), events, slices.IsSorted(taken))
	}
	if len(taken) != events {
		t.Errorf("%d events were taken again after they had been taken", len(taken)-events)
	}
	slices.Sort(agent.acked)
	if n := len(slices.Compact(agent.acked)); n != events {
		t.Errorf("%d of %d events acknowledged", n, events)
	}
	if len(agent.since) < 2 {
		t.Errorf("asked for what comes after %v only", agent.since)
	}
}

// No events at the start are no change; -initial decides as for other watches.
func TestDurableStart(t *testing.T) {
	for initial, want := range map[Initial]string{"": "10 13|16", InitialNever: "16", InitialAlways: "10 13|16"} {
		synctest.Test(t, func(t *testing.T) {
			agent, dir := &eventLog{changed: make(chan struct{})}, t.TempDir()
			var got []string
			s := New(Config{
				Client: func(string) (Client, error) { return agent, nil }, Logger: logx.Discard(), Dir: dir,
				DisplayOnly: true, Handler: &recorder{do: func(_ context.Context, in Input) error {
					got = append(got, strings.Trim(fmt.Sprint(indexes(in.Data)), "[]"))
					return nil
				}},
			}, []Spec{{Type: typeEvent, Durable: true, Initial: initial}})
			ctx, cancel := context.WithCancel(context.Background())
			agent.fire(10)
			agent.fire(13)
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			time.Sleep(time.Minute)
			agent.fire(16)
			time.Sleep(time.Minute)
			cancel()
			if err := <-done; err != nil || strings.Join(got, "|") != want {
				t.Errorf("initial %q: %q, want %q; %v", initial, got, want, err)
			}
			if len(agent.acked) > 0 {
				t.Error("printed is not dealt with")
			}
		})
	}
}
