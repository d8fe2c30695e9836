package lookup

import (
	"container/list"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// Limits of what a client agent keeps of the names that its DNS is asked for.
const (
	maxNames       = 1024             // that exist
	maxAbsent      = 256              // that do not; and as many that were asked for once
	maxInstances   = 16384            // instances and services in all answers together
	maxPerAnswer   = maxInstances / 4 // in one answer; a larger one is not kept
	keepUnused     = 5 * time.Minute  // after the last question
	missesToFollow = 2                // questions until a name that does not exist is followed
)

// answers holds the answers that are kept, and which names are to be followed. It
// knows neither servers nor a clock. Names that do not exist have lists of their own,
// and one question alone does not have them followed: random names evict no others.
type answers struct {
	mu        sync.Mutex
	byQuery   map[watch.Request]*entry
	names     list.List // of *entry; in front what was asked for last
	absent    list.List
	once      list.List // absent, and not to be followed yet
	instances int       // in all that is in the lists
}

// entry is one answer.
type entry struct {
	query     watch.Request
	value     any
	instances int
	known     bool // value is one
	misses    int  // questions without an answer from here
	followed  bool // the stream is to bring what changes
	used      time.Time
	list      *list.List    // nil: it is to be followed no more
	element   *list.Element // in list
}

func newAnswers() *answers { return &answers{byQuery: map[watch.Request]*entry{}} }

// get returns the answer that is kept.
func (s *answers) get(q watch.Request, now time.Time) (value any, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byQuery[q]
	if e == nil || !e.known {
		return nil, false
	}
	s.touch(e, now)
	return e.value, true
}

// miss notes a question that was not answered from here, and how many instances the
// answer had. It says whether there is something new to follow.
func (s *answers) miss(q watch.Request, instances int, now time.Time) (follow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if instances > maxPerAnswer {
		return false
	}
	e := s.byQuery[q]
	if e == nil {
		e = &entry{query: q}
		s.byQuery[q] = e
	}
	if e.misses++; !e.known {
		s.resize(e, instances)
	}
	s.touch(e, now)
	return e.list != &s.once && !e.followed
}

// listFor is the list that an entry belongs to.
func (s *answers) listFor(e *entry) *list.List {
	switch {
	case e.instances > 0:
		return &s.names
	case e.known || e.misses >= missesToFollow:
		return &s.absent
	}
	return &s.once
}

// update stores an answer that the stream has brought. It says whether its name is no
// longer to be followed.
func (s *answers) update(q watch.Request, value any, instances int) (unfollow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byQuery[q]
	if e == nil {
		return false
	}
	if instances > maxPerAnswer {
		s.remove(e)
		e.value, e.known = nil, false
		return true
	}
	e.value, e.known = value, true
	s.resize(e, instances)
	if e.list != nil && e.list != s.listFor(e) {
		s.touch(e, e.used)
	}
	s.evict()
	return e.list == nil
}

// follow returns the names to follow from now on, drops the others, and says whether
// the set has changed.
func (s *answers) follow(now time.Time) (all []watch.Request, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, e := range s.byQuery {
		if now.Sub(e.used) >= keepUnused {
			s.remove(e)
		}
		switch {
		case e.list == nil:
			delete(s.byQuery, q)
			changed = changed || e.followed
		case e.list != &s.once:
			all = append(all, q)
			changed = changed || !e.followed
			e.followed = true
		}
	}
	return all, changed
}

// touch moves an entry to the front of its list, and evicts what is too much.
func (s *answers) touch(e *entry, now time.Time) {
	e.used = now
	switch l := s.listFor(e); e.list {
	case l:
		l.MoveToFront(e.element)
	case nil:
		s.instances += e.instances
		e.list, e.element = l, l.PushFront(e)
	default:
		e.list.Remove(e.element)
		e.list, e.element = l, l.PushFront(e)
	}
	s.evict()
}

// resize sets the number of instances of an entry.
func (s *answers) resize(e *entry, instances int) {
	if e.list != nil {
		s.instances += instances - e.instances
	}
	e.instances = instances
}

func (s *answers) evict() {
	for s.names.Len() > maxNames || s.instances > maxInstances {
		s.remove(s.names.Back().Value.(*entry))
	}
	for _, absent := range []*list.List{&s.absent, &s.once} {
		for absent.Len() > maxAbsent {
			s.remove(absent.Back().Value.(*entry))
		}
	}
}

// remove takes an entry off its list. While its name is followed it stays in byQuery: it
// may be asked for again before the stream ends for it.
func (s *answers) remove(e *entry) {
	if e.list == nil {
		return
	}
	e.list.Remove(e.element)
	s.instances -= e.instances
	e.list, e.element = nil, nil
	if !e.followed {
		delete(s.byQuery, e.query)
	}
}
