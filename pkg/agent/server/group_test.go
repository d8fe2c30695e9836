package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// Many clients that write at once, two of them each key: every write has its own
// result, no index of a key is given twice, so that of those who compare and set
// from the same index exactly one succeeds, and a restart reads it all back.
func TestWritesThatArriveTogether(t *testing.T) {
	checkLeaks(t)
	ts := startServer(t, testOptions{name: "s1", dir: t.TempDir(), expect: 1})
	leader := leaderOf(t, []*testServer{ts})
	const keys, rounds = 20, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for client := range 2 * keys {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", client%keys)
			for range rounds {
				var index uint64
				if pair, _ := leader.Views().Snapshot().KVGet(key); pair != nil {
					index = pair.ModifyIndex
				}
				result, err := leader.Propose(t.Context(), &state.KV{Op: state.KVCAS, Index: index,
					Entry: api.KVPair{Key: key, Value: fmt.Append(nil, client, index)}})
				if err != nil {
					t.Errorf("%s: %v", key, err)
				}
				if result == true {
					mu.Lock()
					won[fmt.Sprintf("%s at %d", key, index)]++
					mu.Unlock()
				}
				put(t, leader, key, fmt.Sprint(client, "sets"))
				put(t, leader, key, fmt.Sprint(client, "sets again"))
			}
			if _, err := leader.Propose(t.Context(), &state.KV{Op: state.KVLock, Entry: api.KVPair{Key: "l" + key, Session: "none"}}); err == nil || !strings.Contains(err.Error(), "invalid session") {
				t.Errorf("a lock without a session: %v", err)
			}
		})
	}
	wg.Wait()
	for at, n := range won {
		if n != 1 {
			t.Errorf("%d compare-and-sets succeeded on %s", n, at)
		}
	}
	changes, _ := leader.Views().Snapshot().KVChanges("k", 1)
	seen := map[string]bool{}
	for _, c := range changes.Changes {
		at := fmt.Sprintf("%s at %d", c.Key, c.Index)
		if seen[at] {
			t.Errorf("two writes of %s", at)
		}
		seen[at] = true
	}
	if len(seen) < len(won)+keys*rounds {
		t.Errorf("%d changes, %d compare-and-sets that succeeded", len(seen), len(won))
	}
	before, _ := leader.Views().Snapshot().KVList("")
	leader.kill()
	back := startServer(t, testOptions{name: leader.name, dir: leader.dir, expect: 1, addr: leader.ln.Addr().String()})
	leaderOf(t, []*testServer{back})
	after, _ := back.Views().Snapshot().KVList("")
	if len(before) != keys || fmt.Sprint(values(before)) != fmt.Sprint(values(after)) {
		t.Errorf("after a restart there is\n%s, before it was\n%s", values(after), values(before))
	}
}

func values(pairs []*api.KVPair) []string {
	var all []string
	for _, p := range pairs {
		all = append(all, fmt.Sprintf("%s=%s@%d", p.Key, p.Value, p.ModifyIndex))
	}
	return all
}

// groupless is a pool with a server that cannot read groups.
type groupless struct{ Pool }

func (p groupless) Members() []api.Member {
	return append([]api.Member{server("old", 99, "10.0.0.99", api.MemberFailed, "level", "2")}, p.Pool.Members()...)
}

// Where one server cannot read them, there are no groups: every write has an entry.
func TestOldServersGetNoGroups(t *testing.T) {
	checkLeaks(t)
	ts := startServer(t, testOptions{name: "s1", expect: 1, edit: func(c *Config) {
		c.Pool = groupless{c.Pool.(*gossip.Pool)}
	}})
	leader := leaderOf(t, []*testServer{ts})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { put(t, leader, fmt.Sprint(i), "v") })
	}
	wg.Wait()
	at := map[uint64]bool{}
	pairs, _ := leader.Views().Snapshot().KVList("")
	for _, p := range pairs {
		at[p.ModifyIndex] = true
	}
	if len(at) != 50 {
		t.Errorf("50 writes have %d indexes", len(at))
	}
}
