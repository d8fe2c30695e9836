package raftnode

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// of are the acks of server "a" among these voters.
func of(voters ...raft.ServerID) *acks {
	a := &acks{self: "a", voters: func() []raft.ServerID { return voters }}
	a.lease.lasts = time.Second
	return a
}

// TestProves: a majority of the voters, in this term, of what was sent after.
func TestProves(t *testing.T) {
	type answer struct {
		id   raft.ServerID
		term uint64
		late bool // sent after the question
	}
	for name, tt := range map[string]struct {
		voters  []raft.ServerID
		answers []answer
		want    bool
	}{
		"alone":                      {[]raft.ServerID{"a"}, nil, true},
		"nobody else":                {[]raft.ServerID{"a", "b", "c"}, nil, false},
		"one of three":               {[]raft.ServerID{"a", "b", "c"}, []answer{{"b", 7, true}}, true},
		"sent before":                {[]raft.ServerID{"a", "b", "c"}, []answer{{"b", 7, false}, {"c", 7, false}}, false},
		"in an older term":           {[]raft.ServerID{"a", "b", "c"}, []answer{{"b", 6, true}}, false},
		"in a newer term":            {[]raft.ServerID{"a", "b", "c"}, []answer{{"b", 8, true}}, false},
		"a non-voter":                {[]raft.ServerID{"a", "b", "c"}, []answer{{"x", 7, true}}, false},
		"one of four":                {[]raft.ServerID{"a", "b", "c", "d"}, []answer{{"b", 7, true}}, false},
		"two of four":                {[]raft.ServerID{"a", "b", "c", "d"}, []answer{{"b", 7, true}, {"d", 7, true}}, true},
		"one of five, twice":         {[]raft.ServerID{"a", "b", "c", "d", "e"}, []answer{{"b", 7, true}, {"b", 7, true}}, false},
		"this one has no vote":       {[]raft.ServerID{"b", "c", "d"}, []answer{{"b", 7, true}}, false},
		"this one has none, two did": {[]raft.ServerID{"b", "c", "d"}, []answer{{"b", 7, true}, {"c", 7, true}}, true},
		"no configuration":           {nil, []answer{{"b", 7, true}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := of(tt.voters...)
			early := make([]stamp, len(tt.answers))
			for i := range early {
				early[i] = a.stamp()
			}
			after := a.sent.Load()
			for i, x := range tt.answers {
				sent := early[i]
				if x.late {
					sent = a.stamp()
				}
				a.record(x.id, x.term, sent)
			}
			if got := a.proves(7, after); got != tt.want {
				t.Errorf("proven: %v", got)
			}
		})
	}
}

// TestAnswersInAnyOrder: an answer that comes late takes nothing back, and one in an
// older term counts for nothing.
func TestAnswersInAnyOrder(t *testing.T) {
	a := of("a", "b", "c")
	first := a.stamp()
	after := a.sent.Load()
	second := a.stamp()
	a.record("b", 7, second)
	a.record("b", 7, first)
	a.record("c", 6, a.stamp())
	if !a.proves(7, after) {
		t.Error("a late answer took the proof back")
	}
	if a.proves(6, after) {
		t.Error("proven in a term that is over")
	}
}

// TestLease: it counts from when the oldest message of the newest majority was
// sent, not from when it was answered, and ends by itself.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := of("a", "b", "c", "d", "e")
		if a.lease.holds() {
			t.Error("a lease that nobody gave")
		}
		early := a.stamp()
		time.Sleep(400 * time.Millisecond)
		late := a.stamp()
		time.Sleep(400 * time.Millisecond)
		a.record("b", 7, late)
		if a.lease.holds() {
			t.Error("two of five gave a lease")
		}
		a.record("c", 7, early)
		a.record("x", 7, a.stamp()) // has no vote
		if !a.lease.holds() {
			t.Error("three of five gave none")
		}
		time.Sleep(199 * time.Millisecond)
		if !a.lease.holds() {
			t.Error("it ended early")
		}
		time.Sleep(time.Millisecond)
		if a.lease.holds() {
			t.Error("the time on the way counts for nothing")
		}
		a.record("d", 7, late)
		if !a.lease.holds() {
			t.Error("a newer majority did not renew it")
		}
		time.Sleep(400 * time.Millisecond)
		if a.lease.holds() {
			t.Error("it does not end")
		}
	})
}

// TestLeaseSeesSleep: while the machine sleeps only the clock on the wall goes on.
func TestLeaseSeesSleep(t *testing.T) {
	now := time.Now()
	slept := now.Add(time.Millisecond).Round(0).Add(time.Hour)
	if got := elapsed(now, slept); got < time.Hour {
		t.Errorf("%v have passed", got)
	}
	if got := elapsed(now, now.Add(time.Second)); got != time.Second {
		t.Errorf("%v have passed", got)
	}
}
