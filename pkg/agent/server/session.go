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

// recheckTime is how long the leader trusts the clock on the wall: keys expire by
// it, and it may be set.
const recheckTime = time.Minute

// RenewSession makes the TTL of a session begin anew, and returns it; nil if it
// has ended. Only a leader can, and it first makes sure that it is one: a leader
// that was replaced without knowing must not promise what the new one never
// hears of. The new TTL begins after the call did.
func (s *Server) RenewSession(ctx context.Context, id string) (*api.Session, error) {
	if err := s.VerifyLeader(ctx); err != nil {
		return nil, err
	}
	session, _ := s.views.Snapshot().Session(id)
	if session == nil {
		return nil, nil
	}
	// Without timers this leader has only begun, and starts all of them in full.
	if timers := s.timers.Load(); timers != nil && !timers.renew(session) {
		return nil, nil
	}
	return session, nil
}

// expireSessions ends what time ends, while this server leads: sessions by their TTL,
// keys by theirs.
func (s *Server) expireSessions(ctx context.Context, t *leadership, timers *ttlTimers) {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { s.followSessions(ctx, timers) })
	parts.Go(func() { s.reapKeys(ctx) })
	timers.run(ctx, func(id string) error {
		if !s.node.LeadsIn(t.term) {
			return api.ErrNoLeader // others have led meanwhile, and have renewed it perhaps
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
func (s *Server) followSessions(ctx context.Context, timers *ttlTimers) {
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
		active := timers.set(ans.Value.([]*api.Session))
		metrics.SetGauge([]string{"session_ttl", "active"}, float32(active))
	}
}

// reapKeys removes keys when their time is over.
func (s *Server) reapKeys(ctx context.Context) {
	next := func(snap *state.Snapshot) view.Answer {
		at, meta := snap.NextReap()
		return view.Answer{Value: at, Meta: meta}
	}
	// The first one also mends what a leader with a wrong clock has set.
	begun, pause := false, firstRetry
	for ctx.Err() == nil {
		ans := next(s.views.Snapshot())
		wait := recheckTime
		if at := ans.Value.(time.Time); !at.IsZero() {
			if wait = min(wait, time.Until(at)); wait <= 0 || !begun {
				if _, err := s.proposeOwn(ctx, &state.Reap{}); err == nil {
					begun, pause = true, firstRetry
				} else if ctx.Err() == nil {
					s.cfg.Logger.Warn("could not remove keys whose time is over; trying again", "error", err, "in", pause)
					sleep(ctx, pause)
					pause = min(2*pause, lastRetry)
				}
				continue
			}
		}
		_, _ = s.views.Read(ctx, "", next, ans.Meta.Index, wait) // an error is ctx's
	}
}

// ttlTimers know when each session is over that has a TTL. A leader starts with
// none: whatever it finds lives for a full TTL from then on, so that a change of
// leader never shortens one.
type ttlTimers struct {
	multiplier float64

	lock   sync.Mutex
	due    map[string]time.Time // by session; also of those that are ending
	ending map[string]bool      // too late for them
	queue  timerQueue           // one per session in due, maybe earlier than due
	sooner chan struct{}        // one slot: the first of the queue has changed
}

func newTTLTimers(multiplier float64) *ttlTimers {
	return &ttlTimers{
		multiplier: multiplier,
		due:        map[string]time.Time{}, ending: map[string]bool{}, sooner: make(chan struct{}, 1),
	}
}

// lifetime is how long a session lives without renewal, 0 for ever.
func (t *ttlTimers) lifetime(s *api.Session) time.Duration {
	ttl := state.SessionTTL(s)
	if ttl <= 0 {
		return 0
	}
	return time.Duration(float64(ttl)*t.multiplier) + sessionGrace
}

// set makes the timers those of the given sessions, and returns how many have
// one. One that runs goes on.
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

// renew starts a session's timer again; false if it is too late.
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

// run calls end for each session whose time is over, again and again until it
// succeeds. It returns when ctx has ended and nothing is ending any more.
func (t *ttlTimers) run(ctx context.Context, end func(id string) error) {
	var ends errgroup.Group
	ends.SetLimit(maxProposals)
	defer func() { _ = ends.Wait() }()
	for {
		over, wait := t.takeExpired()
		for _, id := range over {
			ends.Go(func() error {
				for pause := firstRetry; end(id) != nil && sleep(ctx, pause); pause = min(2*pause, lastRetry) {
				}
				return nil
			})
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-t.sooner:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// takeExpired gives the sessions whose time is over, each once, and how long to wait
// for the next.
func (t *ttlTimers) takeExpired() (over []string, wait time.Duration) {
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
			return over, first.at.Sub(now)
		default:
			heap.Pop(&t.queue)
			t.ending[first.id] = true
			over = append(over, first.id)
		}
	}
	return over, time.Hour
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
