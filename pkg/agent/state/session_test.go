package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// doAt applies a command that was proposed some time after labTime.
func (l *lab) doAt(after time.Duration, cmd Command) any {
	l.t.Helper()
	l.index++
	data, err := Encode(cmd, labTime.Add(after), Level)
	if err != nil {
		l.t.Fatal(err)
	}
	results, _ := l.s.ApplyBatch([]Entry{{Index: l.index, Data: data}})
	l.sn = l.s.Snapshot()
	return results[0]
}

// sessionLab has a node n with a service, checks of both, and nothing else.
func sessionLab(t testing.TB) *lab {
	l := newLab(t)
	l.must(register("n", service("w", "web"), check("serfHealth", "", "passing"), check("c", "w", "warning")))
	return l
}

func (l *lab) session(id string, s api.Session) {
	l.t.Helper()
	s.ID, s.Node = id, "n"
	l.must(&SessionCreate{s})
}

func (l *lab) acquire(key, session string) any {
	l.t.Helper()
	r, _ := l.do(&KV{Op: KVLock, Entry: api.KVPair{Key: key, Session: session}})
	return r
}

func (l *lab) holder(key string) string {
	e, _ := l.sn.KVGet(key)
	if e == nil {
		return "gone"
	}
	return e.Session
}

// Whatever ends a session, its keys are freed or removed with it, in the same
// step and at its index.
func TestWhatEndsASession(t *testing.T) {
	critical := func(id, of string) *Register { return register("n", nil, check(id, of, "critical")) }
	bound := api.Session{NodeChecks: []string{"serfHealth"}, ServiceChecks: []api.SessionServiceCheck{{ID: "c"}}}
	for name, tc := range map[string]struct {
		session api.Session
		end     Command
		stays   bool
	}{
		"destroy":                      {bound, &SessionDestroy{"s"}, false},
		"node check turns critical":    {bound, critical("serfHealth", ""), false},
		"service check turns critical": {bound, critical("c", "w"), false},
		"check is removed":             {bound, &Deregister{Node: "N", CheckID: "c"}, false},
		"service is removed":           {bound, &Deregister{Node: "n", ServiceID: "w"}, false},
		"node is removed":              {api.Session{}, &Deregister{Node: "n"}, false},
		"node leaves":                  {api.Session{}, &Deregister{Node: "n", Left: true}, false},
		"node with checks leaves":      {api.Session{TTL: "10s", NodeChecks: []string{"serfHealth"}}, &Deregister{Node: "n", Left: true}, false},
		"node removed by a txn":        {api.Session{TTL: "10s"}, &Txn{Ops: ops(t, `[{"Node":{"Verb":"delete","Node":{"Node":"n"}}}]`)}, false},
		"check turns passing":          {bound, register("n", nil, check("c", "w", "passing")), true},
		"other check turns critical":   {api.Session{NodeChecks: []string{"serfHealth"}}, critical("c", "w"), true},
		"node leaves, time will end":   {api.Session{TTL: "10s"}, &Deregister{Node: "n", Left: true}, true},
		"other session is destroyed":   {bound, &SessionDestroy{"other"}, true},
	} {
		for _, behavior := range []string{api.SessionRelease, api.SessionDelete} {
			t.Run(name+" "+behavior, func(t *testing.T) {
				l := sessionLab(t)
				tc.session.Behavior = behavior
				l.session("s", tc.session)
				l.session("other", api.Session{Behavior: behavior, NodeChecks: []string{}, TTL: "1h"})
				l.must(&KV{Op: KVLock, Entry: api.KVPair{Key: "held", Value: []byte("v"), Flags: 3, Session: "s"}})
				l.put("free", "1")
				l.acquire("another's", "other")
				l.must(tc.end)
				want := map[string]string{api.SessionRelease: "", api.SessionDelete: "gone"}[behavior]
				if tc.stays {
					want = "s"
				}
				if got := l.holder("held"); got != want {
					t.Fatalf("the key is held by %q, want %q", got, want)
				}
				if s, meta := l.sn.Session("s"); (s != nil) != tc.stays || (meta.Index == l.index) == tc.stays {
					t.Errorf("the session is %+v at %d, now is %d", s, meta.Index, l.index)
				}
				e, meta := l.sn.KVGet("held")
				if (meta.Index == l.index) == tc.stays {
					t.Errorf("the key's index is %d, now is %d", meta.Index, l.index)
				}
				if want == "" && (string(e.Value) != "v" || e.Flags != 3 || e.LockIndex != 1) {
					t.Errorf("the key is %+v", e)
				}
				if _, meta := l.sn.KVGet("free"); meta.Index == l.index {
					t.Error("a free key was touched")
				}
			})
		}
	}
}

func TestLockIndexAndToken(t *testing.T) {
	l := sessionLab(t)
	l.session("a", api.Session{TTL: "1h"})
	l.session("b", api.Session{TTL: "1h"})
	expect := func(what string, lockIndex, token uint64) {
		t.Helper()
		e, _ := l.sn.KVGet("k")
		if e.LockIndex != lockIndex || l.sn.LockToken("k") != token {
			t.Errorf("%s: LockIndex %d, token %d; want %d, %d", what, e.LockIndex, l.sn.LockToken("k"), lockIndex, token)
		}
	}
	write := func(op KVOp, session, value string) {
		t.Helper()
		if r, _ := l.do(&KV{Op: op, Entry: api.KVPair{Key: "k", Session: session, Value: []byte(value)}}); r != true && r != Acquired(l.sn.LockToken("k")) {
			t.Fatalf("%s %s: %v", op, session, r)
		}
	}
	write(KVLock, "a", "1")
	first := l.index
	expect("acquired", 1, first)
	write(KVLock, "a", "2")
	expect("acquired again", 1, first)
	write(KVSet, "", "2")
	expect("written", 0, first)
	if e, _ := l.sn.KVGet("k"); e.Session != "a" || e.ModifyIndex != l.index {
		t.Errorf("a plain write of the same value left %+v", e)
	}
	write(KVUnlock, "a", "3")
	expect("released", 0, 0)
	write(KVLock, "b", "3")
	expect("acquired by another", 1, l.index)
	write(KVUnlock, "b", "4")
	write(KVLock, "a", "4")
	expect("and by the first", 2, l.index)
	l.must(&KV{Op: KVDelete, Entry: api.KVPair{Key: "k"}})
	if l.sn.LockToken("k") != 0 {
		t.Error("a key that is gone has a token")
	}
}

// The delay counts from the end of the session by the proposers' clocks, at most
// a minute, and holds for every key that was held; a release leaves none.
func TestLockDelay(t *testing.T) {
	for _, tc := range []struct{ delay, honoured time.Duration }{{0, 0}, {10 * time.Second, 10 * time.Second}, {time.Hour, time.Minute}} {
		l := sessionLab(t)
		l.session("old", api.Session{LockDelay: tc.delay})
		l.session("new", api.Session{TTL: "1h"})
		l.acquire("k", "old")
		l.acquire("released", "old")
		l.must(&KV{Op: KVUnlock, Entry: api.KVPair{Key: "released", Session: "old"}})
		l.must(&SessionDestroy{"old"})
		take := func(key string) Command { return &KV{Op: KVLock, Entry: api.KVPair{Key: key, Session: "new"}} }
		if r := l.doAt(0, take("released")); r != Acquired(l.index) {
			t.Errorf("%v: a key that was released: %v", tc.delay, r)
		}
		if tc.honoured > 0 {
			if r := l.doAt(tc.honoured-1, take("k")); r != false {
				t.Errorf("%v: just before the end: %v", tc.delay, r)
			}
			if r := l.doAt(tc.honoured-1, &KV{Op: KVSet, Entry: api.KVPair{Key: "k"}}); r != true {
				t.Errorf("%v: a plain write: %v", tc.delay, r)
			}
		}
		if r := l.doAt(tc.honoured, take("k")); r != Acquired(l.index) {
			t.Errorf("%v: at the end: %v", tc.delay, r)
		}
	}
}

// A leader whose clock was an hour ahead has set a delay; the next one's Reap
// makes it end.
func TestReapMendsDelaysOfAWrongClock(t *testing.T) {
	l := sessionLab(t)
	l.session("old", api.Session{LockDelay: time.Minute})
	l.session("new", api.Session{TTL: "1h"})
	l.acquire("k", "old")
	l.doAt(time.Hour, &SessionDestroy{"old"})
	take := &KV{Op: KVLock, Entry: api.KVPair{Key: "k", Session: "new"}}
	l.doAt(time.Second, &Reap{})
	if r := l.doAt(time.Minute, take); r != false {
		t.Errorf("within a minute: %v", r)
	}
	if r := l.doAt(time.Second+time.Minute, take); r != Acquired(l.index) {
		t.Errorf("after a minute: %v", r)
	}
	if at, _ := l.sn.NextReap(); !at.IsZero() {
		t.Errorf("something is left to be reaped at %v", at)
	}
}

func TestKeysEndByTime(t *testing.T) {
	l := newLab(t)
	const many = maxReaped + 10
	for i := range many {
		l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: fmt.Sprint("t/", i)}, TTL: time.Second})
	}
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "u"}, TTL: 2 * time.Second})
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "stays"}, TTL: time.Second})
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "stays"}}) // the same value, without a TTL
	l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "far"}, TTL: 1<<63 - 1})
	if at, _ := l.sn.NextReap(); !at.Equal(labTime.Add(time.Second)) {
		t.Errorf("to be reaped at %v", at)
	}
	if l.doAt(time.Second-1, &Reap{}) != false || l.sn.Stats().Keys != many+3 {
		t.Errorf("too early: %d keys are left", l.sn.Stats().Keys)
	}
	if l.doAt(time.Second, &Reap{}) != true || l.sn.Stats().Keys != 13 {
		t.Errorf("the first many: %d keys are left", l.sn.Stats().Keys)
	}
	if l.doAt(time.Second, &Reap{}) != false || l.sn.Stats().Keys != 3 {
		t.Errorf("the rest: %d keys are left", l.sn.Stats().Keys)
	}
	at, meta := l.sn.NextReap()
	touched := l.must(&KV{Op: KVSet, Entry: api.KVPair{Key: "v"}, TTL: time.Millisecond})
	if !at.Equal(labTime.Add(2*time.Second)) || !anyWakes(meta, touched) {
		t.Errorf("next at %v; a shorter one touched %v", at, touched)
	}
}

func TestElected(t *testing.T) {
	l := sessionLab(t)
	l.session("s", api.Session{TTL: "10s"})
	if n, _ := l.sn.Elected("Jobs"); n != nil {
		t.Errorf("nobody was elected, but %+v", n)
	}
	_, before := l.sn.Elected("Jobs")
	l.index++
	touched := l.must(&KV{Op: KVLock, Entry: api.KVPair{Key: "leader/jobs/.lock", Session: "s"}})
	n, meta := l.sn.Elected("Jobs")
	if n == nil || n.Node != "n" || meta.Index != l.index || !anyWakes(before, touched) {
		t.Errorf("elected is %+v at %d", n, meta.Index)
	}
	l.must(&Deregister{Node: "n", Left: true})
	if n, _ := l.sn.Elected("jobs"); n != nil || l.holder("leader/jobs/.lock") != "s" {
		t.Errorf("without its node it is %+v", n)
	}
}
