package raftnode

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/broadcast"
)

// A follower that answers a message of its leader in the leader's term had not
// moved to a later term when it did, and so had given no vote in one. If a majority
// of the voters answers messages that were *sent* after some moment, no other leader
// can have been elected before that moment (two majorities have a server in common,
// and terms only rise). Whether the answer says success does not matter: a follower
// whose log differs, or whose disk fails, has accepted the sender as its leader all
// the same.
//
// So every message is numbered before it is sent, before its connection is even
// looked up, and the newest message that each server has answered in the newest term
// is kept.

// stamp says when a message was sent.
type stamp struct {
	number uint64 // of all messages of this server, from 1
	at     time.Time
}

// acks is what the followers of this server have acknowledged.
type acks struct {
	self  raft.ServerID
	sent  atomic.Uint64
	lease lease

	voters   func() []raft.ServerID // of the newest configuration
	answered broadcast.Signal       // of each newer answer

	mu   sync.Mutex
	term uint64
	by   map[raft.ServerID]stamp // the newest that each has answered in this term
}

func (a *acks) stamp() stamp { return stamp{a.sent.Add(1), time.Now()} }

// record notes an answer.
func (a *acks) record(id raft.ServerID, term uint64, sent stamp) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case term < a.term:
		return
	case term > a.term:
		a.term, a.by = term, map[raft.ServerID]stamp{}
	}
	if sent.number <= a.by[id].number {
		return
	}
	a.by[id] = sent
	a.answered.Notify()
	if a.lease.wants(sent.at) {
		a.lease.renew(a.agreed(sent.at))
	}
}

// agreed is the newest moment such that a majority has answered what was sent then
// or later; the zero time without one. The caller holds mu.
func (a *acks) agreed(now time.Time) time.Time {
	voters := a.voters()
	times := make([]time.Time, 0, len(voters))
	for _, id := range voters {
		if id == a.self {
			times = append(times, now)
		} else {
			times = append(times, a.by[id].at)
		}
	}
	if len(times) == 0 {
		return time.Time{}
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	return times[len(times)/2]
}

// proves says whether a majority of the voters, this server included if it is one,
// has answered in a term what was sent after the message of that number.
func (a *acks) proves(term, after uint64) bool {
	voters := a.voters()
	a.mu.Lock()
	defer a.mu.Unlock()
	count := 0
	for _, id := range voters {
		if id == a.self || a.term == term && a.by[id].number > after {
			count++
		}
	}
	return count > len(voters)/2
}

// lease is how long after a proof default reads need no new one. Within it they may lack
// what another leader has acknowledged meanwhile; after it they may not. Its clock goes
// on while the process is stopped (CLOCK_MONOTONIC does). It goes on while the machine
// sleeps (the wall clock does), unless the wall clock is set back meanwhile.
type lease struct {
	lasts time.Duration
	since atomic.Pointer[time.Time]
}

// holds says whether the lease has not ended. It is all that a default read costs at a
// leader that hears from its followers.
func (l *lease) holds() bool {
	since := l.since.Load()
	return since != nil && elapsed(*since, time.Now()) < l.lasts
}

// wants says whether an answer to a message of that moment renews the lease: by a
// twentieth of its time at least, so that not every answer does.
func (l *lease) wants(at time.Time) bool {
	since := l.since.Load()
	return since == nil || at.Sub(*since) > l.lasts/20
}

// renew makes the lease begin at a moment, unless it begins later already.
func (l *lease) renew(at time.Time) {
	for !at.IsZero() {
		since := l.since.Load()
		if since != nil && !at.After(*since) || l.since.CompareAndSwap(since, &at) {
			return
		}
	}
}

// elapsed is the time between two moments by the clock on which more has passed.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
