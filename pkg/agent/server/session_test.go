package server

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// ended notes when which session was ended, counted from its start.
type ended struct {
	lock sync.Mutex
	at   map[string]time.Duration
}

func runTimers(t *testing.T, timers *ttlTimers, fails int) *ended {
	began := time.Now()
	e := &ended{at: map[string]time.Duration{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		timers.run(t.Context(), func(id string) error {
			e.lock.Lock()
			defer e.lock.Unlock()
			if fails > 0 {
				fails--
				return errors.New("not now")
			}
			if _, twice := e.at[id]; twice {
				t.Errorf("%s was ended twice", id)
			}
			e.at[id] = time.Since(began)
			return nil
		})
	}()
	t.Cleanup(func() { <-done })
	return e
}

func ttlSession(id, ttl string) *api.Session { return &api.Session{ID: id, TTL: ttl} }

func TestTTLTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timers := newTTLTimers(1)
		e := runTimers(t, timers, 0)
		all := []*api.Session{
			ttlSession("short", "10s"), ttlSession("long", "1m"), ttlSession("renewed", "10s"), ttlSession("renewed in time", "10s"),
			ttlSession("destroyed", "10s"), ttlSession("without", ""), ttlSession("zero", "0s"),
		}
		timers.set(all)
		time.Sleep(4 * time.Second)
		if !timers.renew(all[2]) || !timers.renew(all[5]) {
			t.Error("a renewal was refused")
		}
		timers.set(all) // another session came or went: nothing is counted anew
		time.Sleep(6 * time.Second)
		if !timers.renew(all[3]) {
			t.Error("a renewal at the TTL was refused: the grace is not over")
		}
		timers.set(append(append([]*api.Session{}, all[:4]...), all[5:]...))
		time.Sleep(500 * time.Millisecond)
		if timers.renew(all[0]) {
			t.Error("a session that is ending was renewed")
		}
		time.Sleep(time.Hour)
		e.lock.Lock()
		defer e.lock.Unlock()
		want := map[string]time.Duration{
			"short": 10*time.Second + sessionGrace, "long": time.Minute + sessionGrace,
			"renewed": 14*time.Second + sessionGrace, "renewed in time": 20*time.Second + sessionGrace,
		}
		if fmt.Sprint(e.at) != fmt.Sprint(want) {
			t.Errorf("ended at %v, want %v", e.at, want)
		}
	})
}

// A session that could not be ended is tried again; the multiplier lengthens.
func TestTTLTimersTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timers := newTTLTimers(2)
		e := runTimers(t, timers, 2)
		timers.set([]*api.Session{ttlSession("a", "10s")})
		time.Sleep(time.Minute)
		e.lock.Lock()
		defer e.lock.Unlock()
		first := newBackoff().First // two pauses, of first and twice as long, less up to half by chance
		if due := 20*time.Second + sessionGrace; e.at["a"] < due+3*first/2 || e.at["a"] > due+3*first {
			t.Errorf("ended at %v, due at %v", e.at["a"], due)
		}
		if timers.renew(ttlSession("a", "10s")) {
			t.Error("a session that ended was renewed")
		}
	})
}

func propose(t *testing.T, ts *testServer, cmd state.Command) {
	t.Helper()
	if result, err := ts.Propose(t.Context(), cmd); err != nil || result == false {
		t.Fatalf("%T: %v, %v", cmd, result, err)
	}
}

func createSession(t *testing.T, ts *testServer, id, ttl string, delay time.Duration) {
	t.Helper()
	propose(t, ts, &state.SessionCreate{Session: api.Session{
		ID: id, Node: ts.name, TTL: ttl, LockDelay: delay, Behavior: api.SessionRelease, NodeChecks: []string{},
	}})
}

func (ts *testServer) hasSession(id string) bool {
	s, _ := ts.Views().Snapshot().Session(id)
	return s != nil
}

// One server: sessions and keys end by time, not before and soon after; who
// renews lives.
func TestTimeEndsSessionsAndKeys(t *testing.T) {
	checkLeaks(t)
	ts := startCluster(t, 1)[0]
	leaderOf(t, []*testServer{ts})
	began := time.Now()
	createSession(t, ts, "idle", "1s", 0)
	createSession(t, ts, "kept", "1s", 0)
	propose(t, ts, &state.KV{Op: state.KVLock, Entry: api.KVPair{Key: "l", Session: "idle"}})
	propose(t, ts, &state.KV{Op: state.KVSet, Entry: api.KVPair{Key: "brief"}, TTL: 700 * time.Millisecond})
	gone := map[string]time.Duration{}
	note := func(what string, is bool) {
		if _, known := gone[what]; !known && !is {
			gone[what] = time.Since(began)
		}
	}
	until(t, "the session and the key have ended", func() bool {
		if s, err := ts.RenewSession(t.Context(), "kept"); err != nil || s == nil {
			t.Fatalf("renewed: %v, %v", s, err)
		}
		note("session", ts.hasSession("idle"))
		pair, _ := ts.Views().Snapshot().KVGet("brief")
		note("key", pair != nil)
		return len(gone) == 2
	})
	if gone["session"] < time.Second || gone["key"] < 700*time.Millisecond {
		t.Errorf("too early: %v", gone)
	}
	if pair, _ := ts.Views().Snapshot().KVGet("l"); pair.Session != "" {
		t.Errorf("the lock is held by %s", pair.Session)
	}
	if s, err := ts.RenewSession(t.Context(), "idle"); s != nil || err != nil {
		t.Errorf("renewed what has ended: %v, %v", s, err)
	}
	until(t, "the renewed one ends by itself", func() bool { return !ts.hasSession("kept") })
}

// A change of leader never shortens a session, and lengthens it by at most its
// TTL and the time without a leader; a lock-delay and the end of a key stay as
// they were.
func TestChangeOfLeaderShortensNoSession(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	old := leaderOf(t, all)
	until(t, "all vote and are registered", func() bool {
		for _, ts := range all {
			if voterState(old, ts.name) != "voter" || old.health(ts.name) != api.HealthPassing {
				return false
			}
		}
		return true
	})
	const ttl = 2 * time.Second
	alive := others(all, old)
	propose(t, old, &state.SessionCreate{Session: api.Session{ID: "s", Node: alive[0].name, TTL: ttl.String(), Behavior: api.SessionRelease}})
	propose(t, old, &state.SessionCreate{Session: api.Session{ID: "d", Node: alive[0].name, LockDelay: time.Minute, Behavior: api.SessionRelease}})
	propose(t, old, &state.KV{Op: state.KVLock, Entry: api.KVPair{Key: "delayed", Session: "d"}})
	propose(t, old, &state.SessionDestroy{ID: "d"})
	propose(t, old, &state.KV{Op: state.KVSet, Entry: api.KVPair{Key: "brief"}, TTL: time.Second})
	time.Sleep(ttl / 2) // most of its life goes by
	if s, err := old.RenewSession(t.Context(), "s"); s == nil || err != nil {
		t.Fatalf("renewed: %v, %v", s, err)
	}
	renewed := time.Now()
	old.kill()
	lost := time.Now()
	leader := leaderOf(t, alive)
	found := time.Now()
	result, err := leader.Propose(t.Context(), &state.KV{Op: state.KVLock, Entry: api.KVPair{Key: "delayed", Session: "s"}})
	if result != false || err != nil {
		t.Errorf("a lock within its lock-delay: %v, %v", result, err)
	}
	until(t, "the key has ended", func() bool { pair, _ := leader.Views().Snapshot().KVGet("brief"); return pair == nil })
	until(t, "the session has ended", func() bool { return !leader.hasSession("s") })
	end := time.Now()
	if lived := end.Sub(renewed); lived < ttl {
		t.Errorf("it ended %v after its renewal", lived)
	}
	const slack = time.Second // a busy machine
	if most := found.Sub(lost) + 2*ttl + sessionGrace + slack; end.Sub(renewed) > most {
		t.Errorf("it ended %v after its renewal, %v is the most", end.Sub(renewed), most)
	}
}

// Whoever only thinks that it leads renews nothing.
func TestRenewalIsVerified(t *testing.T) {
	checkLeaks(t)
	all := startCluster(t, 3)
	old := leaderOf(t, all)
	createSession(t, old, "s", "1m", 0)
	old.line.close()
	for _, ts := range others(all, old) {
		ts.line.close()
	}
	if s, err := old.RenewSession(t.Context(), "s"); s != nil || err == nil {
		t.Errorf("a leader that reaches nobody renewed: %v, %v", s, err)
	}
	for _, ts := range all {
		ts.kill()
	}
}

// A node whose agent has left keeps the sessions that time ends; one that was
// deregistered keeps none.
func TestLeaveAndSessions(t *testing.T) {
	s := planner()
	c := newCatalog(t)
	left := client("n", 2, "10.0.0.2", api.MemberLeft)
	setUp := func() {
		c.apply(s.planAlive(c.store.Snapshot(), client("n", 2, "10.0.0.2", api.MemberAlive))...)
		c.apply(&state.SessionCreate{Session: api.Session{ID: "timed", Node: "n", TTL: "10s"}},
			&state.SessionCreate{Session: api.Session{ID: "endless", Node: "n"}},
			&state.SessionCreate{Session: api.Session{ID: "checked", Node: "n", TTL: "10s", NodeChecks: []string{api.SerfHealthID}}})
	}
	names := func() string {
		sessions, _ := c.store.Snapshot().Sessions()
		var out []string
		for _, s := range sessions {
			out = append(out, s.ID)
		}
		return strings.Join(out, " ")
	}
	setUp()
	c.apply(planFailed(c.store.Snapshot(), "n", uuid(2))...)
	if got := names(); got != "endless timed" {
		t.Errorf("after the failure: %q", got)
	}
	c.apply(planLeft(c.store.Snapshot(), left)...)
	if got := names(); got != "timed" {
		t.Errorf("after the leave: %q", got)
	}
	c.apply(&state.SessionDestroy{ID: "timed"})
	setUp()
	c.apply(&state.Deregister{Node: "n"})
	if got := names(); got != "" {
		t.Errorf("after the deregistration: %q", got)
	}
}

// levelPool has one more server until it is upgraded.
type levelPool struct {
	*gossip.Pool
	upgraded atomic.Bool
}

func (p *levelPool) Members() []api.Member {
	if p.upgraded.Load() {
		return p.Pool.Members()
	}
	return append([]api.Member{server("old", 99, "10.0.0.99", api.MemberFailed, "level", "1")}, p.Pool.Members()...)
}

// Where a server cannot apply sessions yet, none is created, and everything else
// is written so that it can read it.
func TestOldServersAreWaitedFor(t *testing.T) {
	checkLeaks(t)
	pool := &levelPool{}
	ts := startServer(t, testOptions{name: "s1", expect: 1, edit: func(c *Config) {
		pool.Pool = c.Pool.(*gossip.Pool)
		c.Pool = pool
	}})
	leaderOf(t, []*testServer{ts})
	create := &state.SessionCreate{Session: api.Session{ID: "s", Node: "s1"}}
	if _, err := ts.Propose(t.Context(), create); err == nil || !strings.Contains(err.Error(), "not possible yet") {
		t.Errorf("error is %v", err)
	}
	put(t, ts, "k", "v")
	pool.upgraded.Store(true)
	ts.MembersChanged()
	propose(t, ts, create)
}
