package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/test/harness"
)

// Five machines, two at a time: never three.
func TestRolloutSlots(t *testing.T) {
	a := harness.Start(t, 1, 0).Agents[0]
	var now, most, done atomic.Int32
	var all sync.WaitGroup
	for range 5 {
		r := newRollout(t, rollout.Config{Client: a.Client, Lock: "svc/web", Slots: 2})
		all.Go(func() {
			err := r.Do(t.Context(), func(context.Context) error {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(50 * time.Millisecond) // the change takes time
				now.Add(-1)
				done.Add(1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != 2 || done.Load() != 5 {
		t.Errorf("%d at a time, %d done", most.Load(), done.Load())
	}
}

func newRollout(t *testing.T, cfg rollout.Config) *rollout.Rollout {
	t.Helper()
	r, err := rollout.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A change drains the service, and is good only when its check passes again; one
// that is not good stops the others until somebody removes the mark.
func TestRolloutGate(t *testing.T) {
	a := harness.Start(t, 1, 0).Agents[0]
	ctx := t.Context()
	reg := &api.AgentServiceRegistration{ID: "web1", Name: "web", Check: &api.CheckDefinition{TTL: api.Duration(time.Hour)}}
	if err := a.ServiceRegister(ctx, reg); err != nil {
		t.Fatal(err)
	}
	check := func(how string) {
		t.Helper()
		if _, err := a.Client.Put(ctx, "/v1/agent/check/"+how+"/service:web1", nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	check("pass")
	cfg := rollout.Config{
		Client: a.Client, Lock: "svc/web", Drain: "web1", Services: []string{"web1"},
		Hold: 300 * time.Millisecond, HealthTimeout: time.Second, AbortAfter: 1,
	}
	drained := func() bool {
		checks, err := a.AgentChecks(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return checks["_service_maintenance:web1"] != nil
	}
	r := newRollout(t, cfg)
	began := time.Now()
	err := r.Do(ctx, func(context.Context) error {
		if !drained() {
			t.Error("not drained during the change")
		}
		return nil
	})
	if err != nil || drained() || time.Since(began) < cfg.Hold {
		t.Fatalf("a good change: %v, drained %v, after %v", err, drained(), time.Since(began))
	}
	err = r.Do(ctx, func(context.Context) error { check("fail"); return nil })
	if err == nil || errors.Is(err, rollout.ErrAborted) || drained() {
		t.Fatalf("a bad change: %v, drained %v", err, drained())
	}
	other := newRollout(t, cfg)
	err = other.Do(ctx, func(context.Context) error { return fmt.Errorf("it ran") })
	if !errors.Is(err, rollout.ErrAborted) {
		t.Fatalf("after a failure: %v", err)
	}
	cleared := make(chan error, 1)
	go func() { cleared <- other.Wait(ctx) }()
	if _, err := a.KVDelete(ctx, "svc/web/.abort", client.KVWrite{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-cleared; err != nil {
		t.Fatal(err)
	}
	check("pass")
	if err := other.Do(ctx, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// What a killed process left drained, the next one ends.
func TestRolloutRecovers(t *testing.T) {
	a := harness.Start(t, 1, 0).Agents[0]
	r := newRollout(t, rollout.Config{Client: a.Client, Lock: "svc/web", Drain: rollout.DrainNode})
	maintained := func() bool {
		checks, err := a.AgentChecks(t.Context(), nil)
		return err == nil && checks["_node_maintenance"] != nil
	}
	for _, stays := range []bool{false, true} {
		reason := map[bool]string{false: "rollout of svc/web", true: "new disks"}[stays]
		if err := a.NodeMaintenance(t.Context(), true, reason); err != nil {
			t.Fatal(err)
		}
		if err := r.Recover(t.Context()); err != nil || maintained() != stays {
			t.Errorf("%s: maintained %v, %v", reason, maintained(), err)
		}
	}
}
