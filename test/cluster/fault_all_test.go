package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// ledger writes keys of its own until it is stopped, and remembers which of them
// were acknowledged, and in which order.
type ledger struct {
	mu    sync.Mutex
	acked map[string]string
}

func (l *ledger) write(ctx context.Context, id int, agents []*agent) {
	for n := 0; ctx.Err() == nil; n++ {
		key, value := fmt.Sprintf("ledger/%d/%d", id, n), fmt.Sprint(id, "-", n)
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		ok, err := agents[n%len(agents)].KVPut(short, key, []byte(value), client.KVWrite{}, nil)
		cancel()
		if err != nil || !ok {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		l.mu.Lock()
		l.acked[key] = value
		l.mu.Unlock()
	}
}

// missing are the acknowledged keys that this server does not have as written.
func (l *ledger) missing(ctx context.Context, a *agent) ([]string, error) {
	pairs, _, err := a.KVList(ctx, "ledger/", &client.Options{Consistent: true})
	if err != nil {
		return nil, err
	}
	have := map[string]string{}
	for _, p := range pairs {
		have[p.Key] = string(p.Value)
	}
	var gone []string
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, value := range l.acked {
		if have[key] != value {
			gone = append(gone, key)
		}
	}
	return gone, nil
}

// All servers are killed at once under load, again and again: nothing that was
// acknowledged is lost.
func TestFaultAllKilled(t *testing.T) {
	c := harness.Start(t, 3, 0, oftenSnapshots)
	l := &ledger{acked: map[string]string{}}
	for round := range rounds(3, 10) {
		awaitOneCluster(c, 3, 3)
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for id := range 8 {
			clients.Go(func() { l.write(ctx, round*100+id, c.Agents) })
		}
		wait(t, 700*time.Millisecond)
		var dying sync.WaitGroup
		for _, a := range c.Agents {
			dying.Go(a.Kill)
		}
		dying.Wait()
		stop()
		clients.Wait()
		for _, a := range c.Agents {
			a.Start()
		}
		for _, a := range c.Agents {
			harness.Within(t, 30*time.Second, a.Name+" answers again", func(ctx context.Context) error {
				gone, err := l.missing(ctx, a)
				if err == nil && len(gone) > 0 {
					t.Fatalf("round %d: %s lost %d acknowledged writes of %d: %.5q", round, a.Name, len(gone), len(l.acked), gone)
				}
				return err
			})
		}
	}
	t.Logf("%d acknowledged writes are all there", len(l.acked))
}

// A follower that was away while the others compacted their logs comes back
// while writes go on, by a snapshot.
func TestFaultFollowerBehindTheLog(t *testing.T) {
	c := harness.Start(t, 3, 0, oftenSnapshots)
	awaitOneCluster(c, 3, 3)
	a := c.Follower()
	a.Kill()
	l := &ledger{acked: map[string]string{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for id := range 4 {
		clients.Go(func() { l.write(ctx, id, c.Servers()) })
	}
	harness.Within(t, 30*time.Second, "the others are far ahead", func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.acked) < 500 {
			return fmt.Errorf("by %d", len(l.acked))
		}
		return nil
	})
	a.Start()
	harness.Within(t, 30*time.Second, "it follows closely", func(ctx context.Context) error {
		self, err := a.AgentSelf(ctx)
		if err != nil {
			return err
		}
		lead, err := c.Leader().AgentSelf(ctx)
		if err != nil {
			return err
		}
		var mine, theirs int
		for self, applied := range map[*map[string]map[string]any]*int{&self: &mine, &lead: &theirs} {
			raft, _ := (*self)["Stats"]["raft"].(map[string]any)
			_, _ = fmt.Sscan(fmt.Sprint(raft["applied_index"]), applied)
		}
		if mine == 0 || theirs-mine > 100 {
			return fmt.Errorf("%d of %d", mine, theirs)
		}
		return nil
	})
	stop()
	clients.Wait()
	for _, b := range c.Agents {
		harness.Within(t, 20*time.Second, b.Name+" has everything", func(ctx context.Context) error {
			gone, err := l.missing(ctx, b)
			if err == nil && len(gone) > 0 {
				err = fmt.Errorf("%d are missing", len(gone))
			}
			return err
		})
	}
	if a.Said("nstalled remote snapshot") == 0 {
		t.Error("no snapshot was sent")
	}
}
