package lookup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func named(name any) watch.Request {
	return watch.Request{Path: fmt.Sprint("/v1/health/service/", name)}
}

// check that what is counted is what is there, and within the limits.
func (s *answers) check(t *testing.T) {
	t.Helper()
	instances, listed, followed := 0, 0, 0
	for q, e := range s.byQuery {
		if e.query != q || e.list == nil && !e.followed {
			t.Fatalf("%v: kept for nothing: %+v", q, e)
		}
		if e.list != nil {
			listed++
			instances += e.instances
			if e.list != s.listFor(e) || e.element.Value != e {
				t.Fatalf("%v is not where it belongs", q)
			}
		}
		if e.followed {
			followed++
		}
	}
	if instances != s.instances || listed != s.names.Len()+s.absent.Len()+s.once.Len() {
		t.Fatalf("%d instances counted, %d there; %d answers there", s.instances, instances, listed)
	}
	if s.names.Len() > maxNames || s.absent.Len() > maxAbsent || s.once.Len() > maxAbsent || instances > maxInstances || followed > maxNames+maxAbsent {
		t.Fatalf("too many: %d names, %d absent, %d asked for once, %d instances, %d followed", s.names.Len(), s.absent.Len(), s.once.Len(), instances, followed)
	}
}

func TestAnswersKeepsWhatTheStreamBrings(t *testing.T) {
	s := newAnswers()
	if !s.miss(named("web"), 2, noon) {
		t.Error("the first question for a name that exists is no news")
	}
	if _, ok := s.get(named("web"), noon); ok {
		t.Error("answered before the stream has brought anything")
	}
	if all, changed := s.follow(noon); !changed || !slices.Equal(all, []watch.Request{named("web")}) {
		t.Errorf("to follow: %v, %v", all, changed)
	}
	if s.miss(named("web"), 2, noon) {
		t.Error("what is followed is news")
	}
	s.update(named("web"), "two", 2)
	if v, ok := s.get(named("web"), noon); !ok || v != "two" {
		t.Errorf("got %v, %v", v, ok)
	}
	s.update(named("web"), "none", 0) // deregistered
	if v, ok := s.get(named("web"), noon); !ok || v != "none" {
		t.Errorf("got %v, %v", v, ok)
	}
	s.check(t)
	if _, changed := s.follow(noon); changed {
		t.Error("the same set is another")
	}
}

func TestAnswersForgetsWhatNobodyAsksFor(t *testing.T) {
	s := newAnswers()
	for _, name := range []string{"web", "db"} {
		s.miss(named(name), 1, noon)
		s.follow(noon)
		s.update(named(name), name, 1)
	}
	later := noon.Add(keepUnused)
	s.get(named("db"), later.Add(-time.Second))
	s.update(named("web"), "changed", 1) // is no question
	if all, changed := s.follow(later); !changed || !slices.Equal(all, []watch.Request{named("db")}) {
		t.Errorf("to follow: %v, %v", all, changed)
	}
	if _, ok := s.get(named("web"), later); ok {
		t.Error("answered, and not followed any more")
	}
	s.check(t)
}

// A name that is driven out and asked for again before the stream has left it out
// stays followed: nothing would bring its answer again.
func TestAnswersTakesBackWhatItDropped(t *testing.T) {
	s := newAnswers()
	s.miss(named("web"), 1, noon)
	s.follow(noon)
	s.update(named("web"), "web", 1)
	for i := range maxNames {
		s.miss(named(i), 1, noon)
	}
	if v, ok := s.get(named("web"), noon); !ok || v != "web" {
		t.Errorf("got %v, %v", v, ok)
	}
	if all, _ := s.follow(noon); !slices.Contains(all, named("web")) || len(all) != maxNames {
		t.Errorf("%d to follow", len(all))
	}
	s.check(t)
}

func TestAnswersAndRandomNames(t *testing.T) {
	s := newAnswers()
	for _, absent := range []bool{false, true, true} {
		s.miss(named(absent), map[bool]int{false: 1, true: 0}[absent], noon)
	}
	for i := range 100_000 {
		if s.miss(named(i), 0, noon) {
			t.Fatal("a name that does not exist is followed because it was asked for once")
		}
	}
	if all, _ := s.follow(noon); len(all) != 2 {
		t.Errorf("%d to follow, want the two that were asked for", len(all))
	}
	s.check(t)
}

func TestAnswersKeepsNoHugeAnswer(t *testing.T) {
	s := newAnswers()
	if s.miss(named("huge"), maxPerAnswer+1, noon) {
		t.Error("a huge answer is to be followed")
	}
	s.miss(named("grows"), 1, noon)
	s.follow(noon)
	if s.update(named("grows"), "", maxPerAnswer); len(s.byQuery) != 1 {
		t.Error("what just fits is not kept")
	}
	if !s.update(named("grows"), "", maxPerAnswer+1) {
		t.Error("an answer that has become huge is followed on")
	}
	if _, ok := s.get(named("grows"), noon); ok {
		t.Error("a huge answer is kept")
	}
	if all, changed := s.follow(noon); len(all) != 0 || !changed {
		t.Errorf("to follow: %v, %v", all, changed)
	}
	s.check(t)
}

// Whatever is asked and brought, it stays within its limits, and what it answers is
// what came last.
func TestAnswersAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s, now := newAnswers(), noon
	last := map[watch.Request]int{}
	followed := map[watch.Request]bool{}
	for range 200_000 {
		q := named(int(rnd.ExpFloat64() * 400))
		switch rnd.IntN(10) {
		default:
			v, ok := s.get(q, now)
			if ok && (v != last[q] || !followed[q]) {
				t.Fatalf("%v: %v, followed %v, want %d", q, v, followed[q], last[q])
			}
			if !ok {
				s.miss(q, rnd.IntN(3)*rnd.IntN(30), now)
			}
		case 0:
			if followed[q] {
				last[q] = rnd.Int()
				s.update(q, last[q], rnd.IntN(2)*rnd.IntN(maxPerAnswer+10))
			}
		case 1:
			now = now.Add(time.Duration(rnd.IntN(200)) * time.Millisecond)
			if rnd.IntN(100) == 0 {
				all, _ := s.follow(now)
				clear(followed)
				for _, q := range all {
					followed[q] = true
				}
				s.check(t)
			}
		}
	}
	if len(last) < 500 || len(followed) < 10 {
		t.Errorf("only %d answers came, %d names are followed: this tests nothing", len(last), len(followed))
	}
}
