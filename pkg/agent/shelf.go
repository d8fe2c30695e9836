package agent

import (
	"container/list"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// Limits of what a client agent keeps of the names that its DNS is asked for.
const (
	maxNames     = 1024            // that exist
	maxAbsent    = 256             // that do not; and as many that were asked for once
	maxThings    = 16384           // instances and services in all answers together
	maxOfOne     = maxThings / 4   // in one answer; a larger one is not kept
	keepUnasked  = 5 * time.Minute // after the last question
	absentToKeep = 2               // questions until a name that does not exist is followed
)

// shelf holds the answers that are kept, and which are to be. It knows neither
// servers nor a clock. Names that do not exist have a place of their own, which one
// question alone does not give them: random names drive out no others, and nothing
// is followed because of them.
type shelf struct {
	mu      sync.Mutex
	byQuery map[watch.Query]*shelved
	names   list.List // of *shelved; in front what was asked for last
	absent  list.List
	once    list.List // absent, and not to be followed yet
	things  int       // in all that is in the lists
}

// shelved is one answer.
type shelved struct {
	query    watch.Query
	value    any
	things   int
	known    bool // value is one
	asked    int  // questions without an answer from here
	followed bool // the stream is to bring what changes
	used     time.Time
	in       *list.List    // nil: it is to be followed no more
	place    *list.Element // in there
}

func newShelf() *shelf { return &shelf{byQuery: map[watch.Query]*shelved{}} }

// get gives the answer that is kept.
func (s *shelf) get(q watch.Query, now time.Time) (value any, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byQuery[q]
	if e == nil || !e.known {
		return nil, false
	}
	s.put(e, now)
	return e.value, true
}

// missed notes a question that somebody else answered, with how many things. It
// says whether there is something new to follow.
func (s *shelf) missed(q watch.Query, things int, now time.Time) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if things > maxOfOne {
		return false
	}
	e := s.byQuery[q]
	if e == nil {
		e = &shelved{query: q}
		s.byQuery[q] = e
	}
	if e.asked++; !e.known {
		s.resize(e, things)
	}
	s.put(e, now)
	return e.in != &s.once && !e.followed
}

// home is where an answer belongs.
func (s *shelf) home(e *shelved) *list.List {
	switch {
	case e.things > 0:
		return &s.names
	case e.known || e.asked >= absentToKeep:
		return &s.absent
	}
	return &s.once
}

// take puts an answer in that the stream has brought. It says whether that is no
// longer to be followed.
func (s *shelf) take(q watch.Query, value any, things int) (drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byQuery[q]
	if e == nil {
		return false
	}
	if things > maxOfOne {
		s.drop(e)
		e.value, e.known = nil, false
		return true
	}
	e.value, e.known = value, true
	s.resize(e, things)
	if e.in != nil && e.in != s.home(e) {
		s.put(e, e.used)
	}
	s.makeRoom()
	return e.in == nil
}

// follow gives all that is to be followed from now on, and forgets the rest; and
// whether that is another set than before.
func (s *shelf) follow(now time.Time) (all []watch.Query, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, e := range s.byQuery {
		if now.Sub(e.used) >= keepUnasked {
			s.drop(e)
		}
		switch {
		case e.in == nil:
			delete(s.byQuery, q)
			changed = changed || e.followed
		case e.in != &s.once:
			all = append(all, q)
			changed = changed || !e.followed
			e.followed = true
		}
	}
	return all, changed
}

// put puts an answer in front of where it belongs, and makes room.
func (s *shelf) put(e *shelved, now time.Time) {
	e.used = now
	switch home := s.home(e); e.in {
	case home:
		home.MoveToFront(e.place)
	case nil:
		s.things += e.things
		e.in, e.place = home, home.PushFront(e)
	default:
		e.in.Remove(e.place)
		e.in, e.place = home, home.PushFront(e)
	}
	s.makeRoom()
}

// resize notes how much an answer holds now.
func (s *shelf) resize(e *shelved, things int) {
	if e.in != nil {
		s.things += things - e.things
	}
	e.things = things
}

func (s *shelf) makeRoom() {
	for s.names.Len() > maxNames || s.things > maxThings {
		s.drop(s.names.Back().Value.(*shelved))
	}
	for _, l := range []*list.List{&s.absent, &s.once} {
		for l.Len() > maxAbsent {
			s.drop(l.Back().Value.(*shelved))
		}
	}
}

// drop takes an answer out. While it is still followed it stays at hand: it may be
// asked for again before the stream leaves it out.
func (s *shelf) drop(e *shelved) {
	if e.in == nil {
		return
	}
	e.in.Remove(e.place)
	s.things -= e.things
	e.in, e.place = nil, nil
	if !e.followed {
		delete(s.byQuery, e.query)
	}
}
