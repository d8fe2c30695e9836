package cluster

import (
	"context"
	"fmt"
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

func TestWritesThroughEveryAgent(t *testing.T) {
	c := harness.Start(t, 3, 1)
	for _, a := range c.Agents {
		a.PutKey("through/"+a.Name, a.Name)
	}
	for _, a := range c.Agents {
		for _, b := range c.Agents {
			if got := a.GetKey("through/"+b.Name, nil); got != b.Name {
				t.Errorf("%s reads %q for what %s wrote", a.Name, got, b.Name)
			}
			if got := a.GetKey("through/"+b.Name, &client.Options{Consistent: true}); got != b.Name {
				t.Errorf("%s reads %q consistently for what %s wrote", a.Name, got, b.Name)
			}
		}
	}
	follower := c.Follower()
	harness.Within(t, 10*time.Second, "a stale read at a follower", func(ctx context.Context) error {
		pair, _, err := follower.KVGet(ctx, "through/c1", &client.Options{Stale: true})
		if err == nil && pair == nil {
			err = fmt.Errorf("the key is not there yet")
		}
		return err
	})
	resp, err := c.Agent("c1").Txn(t.Context(), []*api.TxnOp{
		{KV: &api.TxnKVOp{Verb: "cas", Key: "through/c1", Index: 1}},
		{KV: &api.TxnKVOp{Verb: "set", Key: "through/txn", Value: []byte("x")}},
	}, nil)
	if err != nil || len(resp.Errors) != 1 {
		t.Fatalf("a transaction whose cas fails: %+v, %v", resp, err)
	}
	if got := c.Agents[0].GetKey("through/txn", nil); got != "" {
		t.Error("a transaction was rolled back in part only")
	}
}

// Everything that was acknowledged is there after every process was killed.
func TestAcknowledgedSurvivesKillOfAll(t *testing.T) {
	c := harness.Start(t, 3, 0)
	for round := range 3 {
		acked := writeUntilKilled(c, round)
		for _, a := range c.Agents {
			a.Start()
		}
		if len(acked) == 0 {
			t.Fatal("nothing was acknowledged at all")
		}
		for _, key := range acked {
			harness.Within(t, 30*time.Second, "read of "+key, func(ctx context.Context) error {
				pair, _, err := c.Agents[0].KVGet(ctx, key, nil)
				if err != nil {
					return err
				}
				if pair == nil {
					t.Fatalf("%s was acknowledged and is gone", key)
				}
				return nil
			})
		}
	}
}

// writeUntilKilled writes through every server while all are killed, and
// returns the keys whose writes were acknowledged.
func writeUntilKilled(c *cluster, round int) []string {
	var mu sync.Mutex
	var acked []string
	var count atomic.Int32
	var writers sync.WaitGroup
	for _, a := range c.Agents {
		writers.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("acked/%d/%s/%d", round, a.Name, i)
				ok, err := a.KVPut(c.T.Context(), key, []byte(key), client.KVWrite{}, nil)
				if err != nil {
					return
				}
				if ok {
					mu.Lock()
					acked = append(acked, key)
					mu.Unlock()
					count.Add(1)
				}
			}
		})
	}
	harness.Within(c.T, 30*time.Second, "fifty writes", func(context.Context) error {
		if n := count.Load(); n < 50 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	for _, a := range c.Agents {
		a.Signal(syscall.SIGKILL)
	}
	for _, a := range c.Agents {
		a.Kill()
	}
	writers.Wait()
	return acked
}

// A server that restarts never says of a key it held that there is none.
func TestRestartedServerNeverAnswersWithNothing(t *testing.T) {
	c := harness.Start(t, 3, 0)
	a := c.Follower()
	a.PutKey("held", "yes")
	held, _, err := a.KVGet(t.Context(), "held", nil)
	if err != nil {
		t.Fatal(err)
	}
	index := held.ModifyIndex
	// A follower learns with the next entry that one is committed, and stores that
	// with the one after it.
	a.PutKey("then", "yes")
	a.PutKey("next", "yes")
	harness.Within(t, 10*time.Second, "the follower has it", func(ctx context.Context) error {
		pair, _, err := a.KVGet(ctx, "next", &client.Options{Stale: true})
		if err == nil && pair == nil {
			err = fmt.Errorf("not yet")
		}
		return err
	})
	for range 3 {
		a.Kill()
		a.Start()
		answered := 0
		harness.Within(t, 30*time.Second, "stale answers", func(ctx context.Context) error {
			pair, _, err := a.KVGet(ctx, "held", &client.Options{Stale: true})
			if err != nil {
				return err
			}
			if pair == nil {
				t.Fatalf("a restarted server answered that there is no such key; it was written at %d", index)
			}
			if nodes, _, err := a.Nodes(ctx, &client.Options{Stale: true}); err == nil && len(nodes) == 0 {
				t.Fatal("a restarted server answered that there are no nodes")
			}
			if answered++; answered < 20 {
				return fmt.Errorf("%d so far", answered)
			}
			return nil
		})
	}
}

// Law 4 across a cluster: a blocked reader at a client agent, forwarded twice,
// sleeps through other writes and wakes for its own, also when the leader died
// in between.
func TestBlockedReaderThroughForwarding(t *testing.T) {
	c := harness.Start(t, 3, 1)
	reader, writer := c.Agent("c1"), c.Agents[0]
	writer.PutKey("mine", "1")
	_, meta, err := reader.KVGet(t.Context(), "mine", nil)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		pair *api.KVPair
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		pair, _, err := reader.KVGet(t.Context(), "mine", &client.Options{Index: meta.Index, Wait: time.Minute})
		got <- answer{pair, err}
	}()
	for i := range 50 {
		writer.PutKey(fmt.Sprintf("other/%d", i), "x")
	}
	select {
	case a := <-got:
		t.Fatalf("woke for writes to other keys: %+v", a)
	default:
	}
	writer.PutKey("mine", "2")
	if a := <-got; a.err != nil || string(a.pair.Value) != "2" {
		t.Fatalf("got %+v", a)
	}

	c.Leader().Kill()
	last := meta.Index
	seen := make(chan string, 100)
	go func() {
		defer close(seen)
		for {
			pair, m, err := reader.KVGet(t.Context(), "mine", &client.Options{Index: last, Wait: time.Minute})
			if t.Context().Err() != nil {
				return
			}
			if err != nil {
				continue // no leader for a while
			}
			if m.Index < last {
				t.Errorf("index %d after %d", m.Index, last)
			}
			last = m.Index
			seen <- string(pair.Value)
			if string(pair.Value) == "3" {
				return
			}
		}
	}()
	harness.Within(t, 30*time.Second, "a write after the leader's death", func(ctx context.Context) error {
		_, err := reader.KVPut(ctx, "mine", []byte("3"), client.KVWrite{}, nil)
		return err
	})
	var all []string
	for v := range seen {
		all = append(all, v)
	}
	if strings.Join(all, " ") != "2 3" && strings.Join(all, " ") != "3" {
		t.Errorf("the reader saw %q, want 2 and 3 once each", all)
	}
}
