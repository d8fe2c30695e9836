package server

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// slowPool lets a test change the members while somebody looks at them.
type slowPool struct {
	noPool
	members func() []api.Member
}

func (p slowPool) Members() []api.Member { return p.members() }

func TestLevelIsOfOneLookAtTheMembers(t *testing.T) {
	var now atomic.Pointer[[]api.Member]
	set := func(all ...api.Member) { now.Store(&all) }
	s := planner()
	s.views = view.New(state.New().Snapshot())
	var during func()
	s.cfg.Pool = slowPool{members: func() []api.Member {
		seen := slices.Clone(*now.Load())
		if during != nil {
			during()
			during = nil
		}
		return seen
	}}
	set(server("new", 2, "10.0.0.2", api.MemberAlive, "level", "2"))
	var told sync.WaitGroup
	during = func() { // the members change while they are being looked at
		set(server("old", 3, "10.0.0.3", api.MemberAlive, "level", "1"), server("new", 2, "10.0.0.2", api.MemberAlive, "level", "2"))
		told.Go(s.MembersChanged)
	}
	s.writeLevel()
	told.Wait()
	if got := s.poolLevel(s.cfg.Pool.Members(), 0); got != 1 {
		t.Fatalf("the pool is at level %d", got)
	}
	s.levels.used = 0 // as at a leader that has not written yet
	if got := s.writeLevel(); got != 1 {
		t.Errorf("level %d after the members had changed, want 1", got)
	}
	// What is in use stays so, whoever comes; and who is below it is not added.
	set(server("new", 2, "10.0.0.2", api.MemberAlive, "level", "2"))
	s.MembersChanged()
	if got := s.writeLevel(); got != 2 {
		t.Errorf("level %d, want 2", got)
	}
	set(server("old", 3, "10.0.0.3", api.MemberAlive, "level", "1"), server("new", 2, "10.0.0.2", api.MemberAlive, "level", "2"))
	s.MembersChanged()
	if got := s.writeLevel(); got != 2 {
		t.Errorf("level %d after level 2 was in use", got)
	}
	for level, want := range map[int]bool{1: false, 2: true, 3: true} {
		if ok, inUse := s.mayAdd(gossip.Server{Level: level}); ok != want || inUse != 2 {
			t.Errorf("a server at level %d may be added: %v (in use %d)", level, ok, inUse)
		}
	}
	// The log knows, too: at a new leader that has written nothing.
	next := planner()
	store := state.New()
	data, err := state.Encode(&state.Reap{}, time.Now(), state.Level)
	if err != nil {
		t.Fatal(err)
	}
	store.ApplyBatch([]state.Entry{{Index: 1, Data: state.Group([][]byte{data})}})
	next.views = view.New(store.Snapshot())
	if ok, inUse := next.mayAdd(gossip.Server{Level: 2}); ok || inUse != state.LevelGroups {
		t.Errorf("after a group in the log a server of level 2 may be added: %v (in use %d)", ok, inUse)
	}
}

// oldComes is a pool that a server joins which cannot read groups.
type oldComes struct {
	Pool
	come *atomic.Bool
}

func (p oldComes) Members() []api.Member {
	all := p.Pool.Members()
	if p.come.Load() {
		all = append(all, server("old", 99, "127.0.0.99", api.MemberAlive, "level", "2"))
	}
	return all
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.text.String(), text)
}

// A server that could not read what the cluster has written is not added, and costs
// the others nothing; one that is there from the beginning is.
func TestServersBelowTheLevelInUseAreNotAdded(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(map[bool]string{false: "comes late", true: "is there before"}[early], func(t *testing.T) {
			checkLeaks(t)
			var come atomic.Bool
			come.Store(early)
			log := &logBuffer{}
			ts := startServer(t, testOptions{name: "s1", expect: 1, edit: func(c *Config) {
				c.Pool = oldComes{c.Pool, &come}
				c.Logger = logx.New(log, slog.LevelInfo, false)
			}})
			leader := leaderOf(t, []*testServer{ts})
			put(t, leader, "a", "1")
			come.Store(true)
			leader.MembersChanged()
			added := func() bool { return len(leader.RaftConfiguration().Servers) == 2 }
			if early {
				until(t, "it is added", added)
				if level := leader.writeLevel(); level != 2 {
					t.Errorf("written at level %d", level)
				}
				return
			}
			until(t, "the log says why it is not added", func() bool { return log.has("upgrade that server") })
			put(t, leader, "b", "1")
			if level := leader.writeLevel(); added() || level != state.Level {
				t.Errorf("added: %v; written at level %d", added(), level)
			}
		})
	}
}
