package view

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// parkedAt registers blocked reads at one view, as await does.
func (w *world) parkedAt(key string, q Query, n int) (*shared, []*waiter) {
	w.t.Helper()
	v, _, _ := w.board.lookUp(key)
	ans := w.board.ask(v, q)
	var all []*waiter
	for range n {
		me := &waiter{view: v, min: ans.Meta.Index, group: newGroup()}
		if !w.board.park(me, ans.Encoding, 0) {
			w.t.Fatal("not parked")
		}
		all = append(all, me)
	}
	return v, all
}

func woken(groups ...*group) (n int) {
	for _, g := range groups {
		n += len(g.woken)
	}
	return n
}

// One of those who wait is woken by a change; if it goes away instead of
// looking, another is.
func TestScoutThatLeavesIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	v, all := w.parkedAt("a", get("a"), 3)
	w.apply(put("a", "2"))
	for left := len(all); left > 0; left-- {
		scout := v.scout
		if scout == nil || woken(scout.group) != 1 {
			t.Fatalf("with %d waiting the scout is %+v", left, scout)
		}
		<-scout.group.woken
		if woken(all[0].group, all[1].group, all[2].group) != 0 {
			t.Fatal("more than one was woken")
		}
		w.board.leave(scout)
	}
	if v.scout != nil || w.board.Waiting() != 0 {
		t.Errorf("scout %+v, %d wait", v.scout, w.board.Waiting())
	}
}

// A scout that went while somebody else asked, who saw no change, leaves what
// changed during the question to another.
func TestChangeDuringAQuestionIsSeen(t *testing.T) {
	w := newWorld(t)
	w.apply(instance("n", "s", "critical"))
	v, all := w.parkedAt("s", passing("s"), 2)
	w.apply(instance("n", "s", "warning"))
	scout := v.scout
	snap, _, _ := w.board.begin(v)
	w.board.leave(scout)
	w.apply(instance("n", "s", "passing"))
	if _, wake := w.board.fill(v, snap, passing("s")(snap)); len(wake) != 0 {
		t.Fatal("woken for nothing that is to be seen")
	}
	if v.scout == nil || v.scout == scout || woken(v.scout.group) != 1 {
		t.Errorf("the scout is %+v of %v", v.scout, all)
	}
}

// Who is handed the answer does not come to ask any more: for what changed during
// the question another has to, one who waits for more than that answer.
func TestScoutThatWasHandedItsAnswerIsReplaced(t *testing.T) {
	for range 30 { // which of them is the scout is chance
		w := newWorld(t)
		w.apply(put("a", "1"))
		v, all := w.parkedAt("a", get("a"), 3)
		patient := all[2]
		patient.min = w.index + 2
		w.apply(put("a", "2"))
		snap, _, _ := w.board.begin(v) // somebody asks
		w.apply(put("a", "3"))
		w.board.fill(v, snap, get("a")(snap))
		if all[0].given.Load() == nil || all[1].given.Load() == nil || patient.given.Load() != nil {
			t.Fatal("the answer was not handed to those whom it ends")
		}
		if v.holds() || v.scout != patient || woken(patient.group) != 1 {
			t.Fatalf("a view that does not hold has the scout %p; %p waits", v.scout, patient)
		}
	}
}

func TestScoutWhoseQueryPanicsIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	v, _ := w.parkedAt("a", get("a"), 2)
	w.apply(put("a", "2"))
	first := v.scout
	w.board.wakeUp(first)
	func() {
		defer func() { _ = recover() }()
		w.board.ask(v, func(*state.Snapshot) Answer { panic("a mistake") })
	}()
	if v.scout == nil || v.scout == first || v.holds() {
		t.Errorf("scout %+v, the view holds: %v", v.scout, v.holds())
	}
	if got := value(w.read("a", get("a"))); got != "2" {
		t.Errorf("the next reader gets %q", got)
	}
}

// A Follower that has asked by itself, as in the last round of a frame, asks the view
// when it becomes its scout, and is woken by the next change.
func TestFollowerThatAskedByItselfBecomesScout(t *testing.T) {
	w := newWorld(t)
	parked := func() *Follower {
		f := w.board.Follow()
		f.Add("a", "a", get("a"))
		f.frame()
		if !f.park() {
			t.Fatal("not parked")
		}
		return f
	}
	f, leaves := parked(), parked()
	defer f.Close()
	f.take() // busy
	w.apply(put("a", "1"))
	v := w.board.views.byKey["a"]
	if v.scout != leaves.waiters[0] {
		t.Fatalf("scout %+v", v.scout)
	}
	if dirty, _ := f.take(); len(dirty) != 1 || !f.park() {
		t.Fatalf("%d are dirty", len(dirty))
	}
	leaves.Close()
	if v.scout != f.waiters[0] || woken(f.group) != 1 {
		t.Fatalf("scout %+v", v.scout)
	}
	<-f.group.woken
	if f.frame(); v.scout != nil || !v.holds() || !f.park() {
		t.Errorf("scout %+v, the view holds: %v", v.scout, v.holds())
	}
	w.apply(put("a", "2"))
	if woken(f.group) != 1 {
		t.Error("not woken by a change")
	}
}

// What changes while a view is asked for the first time was not watched then.
func TestChangeDuringTheFirstQuestionIsSeen(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	w.read("a", func(s *state.Snapshot) Answer {
		w.apply(put("a", "2"))
		return get("a")(s)
	})
	if got := value(w.read("a", get("a"))); got != "2" {
		t.Errorf("read %q after 2 was written", got)
	}
}

// Readers whose index is ahead of this server wait until it is passed.
func TestReadersThatAreAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers = 3 // one of them is the scout
		w := newWorld(t)
		w.apply(put("a", "1"))
		done := make(chan Answer, readers)
		min := w.index + 2
		for range readers {
			go func() {
				ans, err := w.board.Read(t.Context(), "a", get("a"), min, time.Hour)
				if err != nil {
					t.Error(err)
				}
				done <- ans
			}()
		}
		for _, v := range []string{"2", "3"} {
			synctest.Wait()
			w.apply(put("a", v))
			synctest.Wait()
			if len(done) > 0 {
				t.Fatalf("%d returned at %d, asked for more than %d", len(done), w.index, min)
			}
		}
		w.apply(put("a", "4"))
		for range readers {
			if ans := <-done; value(ans) != "4" {
				t.Errorf("got %q", value(ans))
			}
		}
	})
}
