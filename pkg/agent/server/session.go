package server

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-metrics"
	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

// sessionGrace is how much longer than its TTL (times the multiplier) a session
// lives: time for a last renewal to arrive.
const sessionGrace = 250 * time.Millisecond

// RenewSession restarts the TTL of a session and returns the session; nil if it has
// ended. Only a leader can, and it proves first that it leads: a leader that was
// replaced without knowing it must not promise what the new one never learns. The
// new TTL begins after the call did.
func (s *Server) RenewSession(ctx context.Context, id string) (*api.Session, error) {
	if err := s.VerifyLeader(ctx); err != nil {
		return nil, err
	}
	session, _ := s.views.Snapshot().Session(id)
	if session == nil {
		return nil, nil
	}
	// If the leadership has ended meanwhile, the next leader gives every session a full TTL.
	if l := s.ready.Load(); l != nil && !l.timers.renew(session) {
		return nil, nil
	}
	return session, nil
}

// endSessions ends the sessions whose TTL is over.
func (s *Server) endSessions(ctx context.Context, l *leadership) {
	l.timers.run(ctx, func(id string) error {
		if !s.node.LeadsIn(l.term) {
			return api.ErrNoLeader // another leader may have renewed it meanwhile
		}
		_, err := s.proposeOwn(ctx, &state.SessionDestroy{ID: id})
		if err == nil {
			s.cfg.Logger.Debug("a session was not renewed in time and has ended", "session", id)
		} else if ctx.Err() == nil {
			s.cfg.Logger.Warn("could not end a session that was not renewed in time; trying again", "session", id, "error", err)
		}
		return err
	})
}

// followSessions keeps a timer for every session with a TTL.
func (s *Server) followSessions(ctx context.Context, l *leadership) {
	var index uint64
	for {
		ans, err := s.views.Read(ctx, "", func(snap *state.Snapshot) view.Answer {
			sessions, meta := snap.Sessions()
			return view.Answer{Value: sessions, Meta: meta}
		}, index, time.Hour)
		if err != nil {
			return // ctx has ended
		}
		index = ans.Meta.Index
		active := l.timers.set(ans.Value.([]*api.Session))
		metrics.SetGauge([]string{"session_ttl", "active"}, float32(active))
	}
}

// reapKeys removes keys when their TTL is over.
func (s *Server) reapKeys(ctx context.Context, _ *leadership) {
	s.proposeDue(ctx, dueCommand{
		purpose: "remove keys whose time is over",
		watched: func(snap *state.Snapshot) view.Answer {
			at, meta := snap.NextReap()
			return view.Answer{Value: at, Meta: meta}
		},
		plan: func(_ *state.Snapshot, next any, first bool) (state.Command, time.Duration) {
			at := next.(time.Time)
			if at.IsZero() {
				return nil, recheckTime
			}
			wait := min(recheckTime, time.Until(at))
			if wait <= 0 || first { // the first one corrects what a leader with a wrong clock has set
				return &state.Reap{}, 0
			}
			return nil, wait
		},
	})
}

// ttlTimers know when each session with a TTL ends. A leader starts with none: every
// session that it finds gets a full TTL from then on, so that a change of leader never
// shortens one.
type ttlTimers struct {
	multiplier float64

	lock   sync.Mutex
	due    map[string]time.Time // by session; also of those that are ending
	ending map[string]bool      // these cannot be renewed any more
	queue  timerQueue           // one per session in due, maybe earlier than due
	sooner chan struct{}        // one slot: the first of the queue has changed
}

func newTTLTimers(multiplier float64) *ttlTimers {
	return &ttlTimers{
		multiplier: multiplier,
		due:        map[string]time.Time{}, ending: map[string]bool{}, sooner: make(chan struct{}, 1),
	}
}

// lifetime is how long a session lives without renewal; 0: for ever.
func (t *ttlTimers) lifetime(s *api.Session) time.Duration {
	ttl := state.SessionTTL(s)
	if ttl <= 0 {
		return 0
	}
	return time.Duration(float64(ttl)*t.multiplier) + sessionGrace
}

// set gives each of these sessions a timer, removes all others, and returns how many
// there are. A timer that runs goes on.
func (t *ttlTimers) set(sessions []*api.Session) (active int) {
	t.lock.Lock()
	defer t.lock.Unlock()
	there := make(map[string]bool, len(sessions))
	for _, s := range sessions {
		if life := t.lifetime(s); life > 0 {
			there[s.ID] = true
			if _, runs := t.due[s.ID]; !runs {
				t.start(s.ID, time.Now().Add(life))
			}
		}
	}
	for id := range t.due {
		if !there[id] {
			delete(t.due, id)
			delete(t.ending, id)
		}
	}
	return len(t.due)
}

// renew restarts a session's timer; false if the session is ending.
func (t *ttlTimers) renew(s *api.Session) bool {
	life := t.lifetime(s)
	if life == 0 {
		return true
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.ending[s.ID] {
		return false
	}
	due := time.Now().Add(life)
	if _, runs := t.due[s.ID]; runs {
		t.due[s.ID] = due // its place in the queue follows when it comes up
	} else {
		t.start(s.ID, due)
	}
	return true
}

// start is called with the lock held.
func (t *ttlTimers) start(id string, due time.Time) {
	t.due[id] = due
	heap.Push(&t.queue, queued{due, id})
	if t.queue[0].id == id {
		select {
		case t.sooner <- struct{}{}:
		default:
		}
	}
}

// run calls end for each session whose time is over, until it succeeds. It returns
// when ctx has ended and so has every call of end.
func (t *ttlTimers) run(ctx context.Context, end func(id string) error) {
	var ends errgroup.Group
	ends.SetLimit(maxProposals)
	defer func() { _ = ends.Wait() }()
	for {
		expired, wait := t.takeExpired()
		for _, id := range expired {
			ends.Go(func() error {
				backoff := newBackoff()
				for end(id) != nil && backoff.Sleep(ctx) == nil {
				}
				return nil
			})
		}
		if !waitFor(ctx, t.sooner, wait) {
			return
		}
	}
}

// takeExpired gives the sessions whose time is over, each once, and how long to wait
// for the next one.
func (t *ttlTimers) takeExpired() (expired []string, wait time.Duration) {
	t.lock.Lock()
	defer t.lock.Unlock()
	now := time.Now()
	for len(t.queue) > 0 {
		first := t.queue[0]
		due, runs := t.due[first.id]
		switch {
		case !runs || t.ending[first.id]:
			heap.Pop(&t.queue)
		case due.After(first.at):
			t.queue[0].at = due
			heap.Fix(&t.queue, 0)
		case first.at.After(now):
			return expired, first.at.Sub(now)
		default:
			heap.Pop(&t.queue)
			t.ending[first.id] = true
			expired = append(expired, first.id)
		}
	}
	return expired, time.Hour
}

type queued struct {
	at time.Time
	id string
}

// timerQueue has the first on top; for container/heap.
type timerQueue []queued

func (q timerQueue) Len() int           { return len(q) }
func (q timerQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q timerQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *timerQueue) Push(x any)        { *q = append(*q, x.(queued)) }

func (q *timerQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
