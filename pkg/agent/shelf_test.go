package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func named(name any) watch.Query { return watch.Query{Path: fmt.Sprint("/v1/health/service/", name)} }

// check that what is counted is what is there, and within the limits.
func (s *shelf) check(t *testing.T) {
	t.Helper()
	things, listed, followed := 0, 0, 0
	for q, e := range s.byQuery {
		if e.query != q || e.in == nil && !e.followed {
			t.Fatalf("%v: kept for nothing: %+v", q, e)
		}
		if e.in != nil {
			listed++
			things += e.things
			if e.in != s.home(e) || e.place.Value != e {
				t.Fatalf("%v is not where it belongs", q)
			}
		}
		if e.followed {
			followed++
		}
	}
	if things != s.things || listed != s.names.Len()+s.absent.Len()+s.once.Len() {
		t.Fatalf("%d things counted, %d there; %d answers there", s.things, things, listed)
	}
	if s.names.Len() > maxNames || s.absent.Len() > maxAbsent || s.once.Len() > maxAbsent || things > maxThings || followed > maxNames+maxAbsent {
		t.Fatalf("too many: %d names, %d absent, %d asked for once, %d things, %d followed", s.names.Len(), s.absent.Len(), s.once.Len(), things, followed)
	}
}

func TestShelfKeepsWhatTheStreamBrings(t *testing.T) {
	s := newShelf()
	if !s.missed(named("web"), 2, noon) {
		t.Error("the first question for a name that exists is no news")
	}
	if _, ok := s.get(named("web"), noon); ok {
		t.Error("answered before the stream has brought anything")
	}
	if all, changed := s.follow(noon); !changed || !slices.Equal(all, []watch.Query{named("web")}) {
		t.Errorf("to follow: %v, %v", all, changed)
	}
	if s.missed(named("web"), 2, noon) {
		t.Error("what is followed is news")
	}
	s.take(named("web"), "two", 2)
	if v, ok := s.get(named("web"), noon); !ok || v != "two" {
		t.Errorf("got %v, %v", v, ok)
	}
	s.take(named("web"), "none", 0) // deregistered
	if v, ok := s.get(named("web"), noon); !ok || v != "none" {
		t.Errorf("got %v, %v", v, ok)
	}
	s.check(t)
	if _, changed := s.follow(noon); changed {
		t.Error("the same set is another")
	}
}

func TestShelfForgetsWhatNobodyAsksFor(t *testing.T) {
	s := newShelf()
	for _, name := range []string{"web", "db"} {
		s.missed(named(name), 1, noon)
		s.follow(noon)
		s.take(named(name), name, 1)
	}
	later := noon.Add(keepUnasked)
	s.get(named("db"), later.Add(-time.Second))
	s.take(named("web"), "changed", 1) // is no question
	if all, changed := s.follow(later); !changed || !slices.Equal(all, []watch.Query{named("db")}) {
		t.Errorf("to follow: %v, %v", all, changed)
	}
	if _, ok := s.get(named("web"), later); ok {
		t.Error("answered, and not followed any more")
	}
	s.check(t)
}

// A name that is driven out and asked for again before the stream has left it out
// stays followed: nothing would bring its answer again.
func TestShelfTakesBackWhatItDropped(t *testing.T) {
	s := newShelf()
	s.missed(named("web"), 1, noon)
	s.follow(noon)
	s.take(named("web"), "web", 1)
	for i := range maxNames {
		s.missed(named(i), 1, noon)
	}
	if v, ok := s.get(named("web"), noon); !ok || v != "web" {
		t.Errorf("got %v, %v", v, ok)
	}
	if all, _ := s.follow(noon); !slices.Contains(all, named("web")) || len(all) != maxNames {
		t.Errorf("%d to follow", len(all))
	}
	s.check(t)
}

func TestShelfAndRandomNames(t *testing.T) {
	s := newShelf()
	for _, absent := range []bool{false, true, true} {
		s.missed(named(absent), map[bool]int{false: 1, true: 0}[absent], noon)
	}
	for i := range 100_000 {
		if s.missed(named(i), 0, noon) {
			t.Fatal("a name that does not exist is followed because it was asked for once")
		}
	}
	if all, _ := s.follow(noon); len(all) != 2 {
		t.Errorf("%d to follow, want the two that were asked for", len(all))
	}
	s.check(t)
}

func TestShelfKeepsNoHugeAnswer(t *testing.T) {
	s := newShelf()
	if s.missed(named("huge"), maxOfOne+1, noon) {
		t.Error("a huge answer is to be followed")
	}
	s.missed(named("grows"), 1, noon)
	s.follow(noon)
	if s.take(named("grows"), "", maxOfOne); len(s.byQuery) != 1 {
		t.Error("what just fits is not kept")
	}
	if !s.take(named("grows"), "", maxOfOne+1) {
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
func TestShelfAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s, now := newShelf(), noon
	last := map[watch.Query]int{}
	followed := map[watch.Query]bool{}
	for range 200_000 {
		q := named(int(rnd.ExpFloat64() * 400))
		switch rnd.IntN(10) {
		default:
			v, ok := s.get(q, now)
			if ok && (v != last[q] || !followed[q]) {
				t.Fatalf("%v: %v, followed %v, want %d", q, v, followed[q], last[q])
			}
			if !ok {
				s.missed(q, rnd.IntN(3)*rnd.IntN(30), now)
			}
		case 0:
			if followed[q] {
				last[q] = rnd.Int()
				s.take(q, last[q], rnd.IntN(2)*rnd.IntN(maxOfOne+10))
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
