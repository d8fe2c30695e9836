package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// counter is incremented by compare-and-set from many sides.
type counter struct {
	t              *testing.T
	acked, unknown atomic.Int64
	seen           atomic.Int64 // the largest value that anybody has read consistently
}

// increment goes on until ctx ends. "No cluster leader" promises that nothing
// was done; after any other error nobody can tell.
func (n *counter) increment(ctx context.Context, a *agent) {
	for ctx.Err() == nil {
		pair, _, err := a.KVGet(ctx, "count", nil)
		if err != nil || pair == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		value, _ := strconv.ParseInt(string(pair.Value), 10, 64)
		next := strconv.FormatInt(value+1, 10)
		ok, err := a.KVPut(ctx, "count", []byte(next), client.KVWrite{CAS: &pair.ModifyIndex}, nil)
		switch {
		case err == nil && ok:
			n.acked.Add(1)
		case err != nil && !errors.Is(err, api.ErrNoLeader) && !errors.Is(err, syscall.ECONNREFUSED):
			n.unknown.Add(1)
		}
	}
}

// read reads consistently and compares with what was known before it began.
func (n *counter) read(ctx context.Context, a *agent) {
	for ctx.Err() == nil {
		least, acked := n.seen.Load(), n.acked.Load()
		pair, _, err := a.KVGet(ctx, "count", &client.Options{Consistent: true})
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if pair == nil {
			n.t.Errorf("%s answers that there is no counter", a.Name)
			return
		}
		value, _ := strconv.ParseInt(string(pair.Value), 10, 64)
		if value < max(least, acked) {
			n.t.Errorf("%s reads %d consistently; %d had been read and %d acknowledged before", a.Name, value, least, acked)
		}
		for old := n.seen.Load(); value > old && !n.seen.CompareAndSwap(old, value); old = n.seen.Load() {
		}
	}
}

// What was acknowledged counts, once, and nothing else does, while the leader
// dies twice under load; consistent reads never go backwards.
func TestCountThroughLeaderDeaths(t *testing.T) {
	c := harness.Start(t, 3, 0)
	c.Agents[0].PutKey("count", "0")
	n := &counter{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	for _, a := range c.Agents {
		running.Go(func() { n.increment(ctx, a) })
		running.Go(func() { n.increment(ctx, a) })
		running.Go(func() { n.read(ctx, a) })
	}
	more := func(what string) {
		from := n.acked.Load()
		harness.Within(t, 30*time.Second, "a hundred increments "+what, func(context.Context) error {
			if got := n.acked.Load() - from; got < 100 {
				return fmt.Errorf("%d so far", got)
			}
			return nil
		})
	}
	more("at first")
	for range 2 {
		dead := c.Leader()
		dead.Kill()
		more("without a server")
		dead.Start()
		awaitOneCluster(c, 3, 3)
	}
	more("at last")
	cancel()
	running.Wait()
	value, _ := strconv.ParseInt(c.Agents[0].GetKey("count", &client.Options{Consistent: true}), 10, 64)
	acked, unknown := n.acked.Load(), n.unknown.Load()
	t.Logf("%d acknowledged, %d unknown, counted to %d", acked, unknown, value)
	if value < acked || value > acked+unknown {
		t.Errorf("counted to %d: want at least the %d that were acknowledged, and at most %d more", value, acked, unknown)
	}
}

// Two hundred readers that wait, at a follower and at a client, all see what is
// written after the leader has changed, and nobody sees an older value again.
func TestBlockedReadersFollowLeaderChange(t *testing.T) {
	c := harness.Start(t, 3, 1)
	follower, remote := c.Follower(), c.Agent("c1")
	follower.PutKey("watched", "0")
	var waiting, done atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var readers sync.WaitGroup
	for _, a := range []*agent{follower, remote} {
		for range 100 {
			readers.Go(func() {
				if err := readUntil(ctx, a, "3", &waiting); err != nil {
					t.Errorf("at %s: %v", a.Name, err)
					return
				}
				done.Add(1)
			})
		}
	}
	harness.Within(t, 20*time.Second, "all readers wait", func(context.Context) error {
		if n := waiting.Load(); n < 200 {
			return fmt.Errorf("%d do", n)
		}
		return nil
	})
	follower.PutKey("watched", "1")
	c.Leader().Kill()
	for _, value := range []string{"2", "3"} {
		harness.Within(t, 30*time.Second, "a write after the leader's death", func(ctx context.Context) error {
			_, err := remote.KVPut(ctx, "watched", []byte(value), client.KVWrite{}, nil)
			return err
		})
	}
	began := time.Now()
	readers.Wait()
	t.Logf("%d readers saw the last value within %v of its acknowledgement", done.Load(), time.Since(began))
}

// readUntil follows a key by blocking queries until it has the value. Values and
// indexes must not fall.
func readUntil(ctx context.Context, a *agent, last string, first *atomic.Int32) error {
	index, value := uint64(0), ""
	counted := false
	for {
		pair, meta, err := a.KVGet(ctx, "watched", &client.Options{Index: index, Wait: time.Minute})
		if ctx.Err() != nil {
			return fmt.Errorf("still %q: %w", value, ctx.Err())
		}
		if err != nil { // no leader for a while
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if pair == nil {
			return errors.New("the key is said not to exist")
		}
		if meta.Index < index || string(pair.Value) < value {
			return fmt.Errorf("%q at %d after %q at %d", pair.Value, meta.Index, value, index)
		}
		index, value = meta.Index, string(pair.Value)
		if !counted {
			counted = true
			first.Add(1)
		}
		if value == last {
			return nil
		}
	}
}

// A lone server that restarts is of use at once: the first answer that it gives
// is the truth.
func TestLoneServerRestarts(t *testing.T) {
	c := harness.Start(t, 1, 0)
	a := c.Agents[0]
	want := map[string]string{}
	for i := range 200 {
		want[fmt.Sprintf("held/%03d", i)] = strings.Repeat("x", i)
		a.PutKey(fmt.Sprintf("held/%03d", i), want[fmt.Sprintf("held/%03d", i)])
	}
	var took []time.Duration
	for _, o := range []*client.Options{nil, {Stale: true}, {Consistent: true}} {
		a.Kill()
		began := time.Now()
		a.Start()
		got := map[string]string{}
		harness.Within(t, 10*time.Second, "the first answer", func(ctx context.Context) error {
			pairs, _, err := a.KVList(ctx, "held/", o)
			for _, p := range pairs {
				got[p.Key] = string(p.Value)
			}
			return err
		})
		took = append(took, time.Since(began))
		if !maps.Equal(got, want) {
			t.Errorf("the first answer (%+v) has %d of %d keys", o, len(got), len(want))
		}
		a.PutKey("again", "yes")
	}
	t.Logf("from the start of the process to the first answer: %v", took)
	if slices.Min(took) > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}
