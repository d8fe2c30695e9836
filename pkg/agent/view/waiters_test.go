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
	v, _, _ := w.views.lookUp(key)
	ans := w.views.ask(v, q)
	var all []*waiter
	for range n {
		me := &waiter{view: v, min: ans.Meta.Index, group: newGroup()}
		if !w.views.park(me, ans.Encoding, 0) {
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
func TestRefresherThatLeavesIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	v, all := w.parkedAt("a", get("a"), 3)
	w.apply(put("a", "2"))
	for left := len(all); left > 0; left-- {
		refresher := v.refresher
		if refresher == nil || woken(refresher.group) != 1 {
			t.Fatalf("with %d waiting the refresher is %+v", left, refresher)
		}
		<-refresher.group.woken
		if woken(all[0].group, all[1].group, all[2].group) != 0 {
			t.Fatal("more than one was woken")
		}
		w.views.leave(refresher)
	}
	if v.refresher != nil || w.views.Waiting() != 0 {
		t.Errorf("refresher %+v, %d wait", v.refresher, w.views.Waiting())
	}
}

// A refresher that went while somebody else asked, who saw no change, leaves what
// changed during the question to another.
func TestChangeDuringAQuestionIsSeen(t *testing.T) {
	w := newWorld(t)
	w.apply(instance("n", "s", "critical"))
	v, all := w.parkedAt("s", passing("s"), 2)
	w.apply(instance("n", "s", "warning"))
	refresher := v.refresher
	snap, _, _ := w.views.beginRefresh(v)
	w.views.leave(refresher)
	w.apply(instance("n", "s", "passing"))
	if _, wake := w.views.endRefresh(v, snap, passing("s")(snap)); len(wake) != 0 {
		t.Fatal("woken for nothing that is to be seen")
	}
	if v.refresher == nil || v.refresher == refresher || woken(v.refresher.group) != 1 {
		t.Errorf("the refresher is %+v of %v", v.refresher, all)
	}
}

// Who is handed the answer does not come to ask any more: for what changed during
// the question another has to, one who waits for more than that answer.
func TestRefresherThatWasHandedItsAnswerIsReplaced(t *testing.T) {
	for range 30 { // which of them is the refresher is chance
		w := newWorld(t)
		w.apply(put("a", "1"))
		v, all := w.parkedAt("a", get("a"), 3)
		later := all[2]
		later.min = w.index + 2
		w.apply(put("a", "2"))
		snap, _, _ := w.views.beginRefresh(v) // another reader refreshes it
		w.apply(put("a", "3"))
		w.views.endRefresh(v, snap, get("a")(snap))
		if all[0].delivered.Load() == nil || all[1].delivered.Load() == nil || later.delivered.Load() != nil {
			t.Fatal("the answer was not handed to those whom it ends")
		}
		if v.fresh() || v.refresher != later || woken(later.group) != 1 {
			t.Fatalf("a view that is not fresh has the refresher %p; %p waits", v.refresher, later)
		}
	}
}

func TestRefresherWhoseQueryPanicsIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.apply(put("a", "1"))
	v, _ := w.parkedAt("a", get("a"), 2)
	w.apply(put("a", "2"))
	first := v.refresher
	w.views.takeWoken(first)
	func() {
		defer func() { _ = recover() }()
		w.views.ask(v, func(*state.Snapshot) Answer { panic("a mistake") })
	}()
	if v.refresher == nil || v.refresher == first || v.fresh() {
		t.Errorf("refresher %+v, fresh: %v", v.refresher, v.fresh())
	}
	if got := value(w.read("a", get("a"))); got != "2" {
		t.Errorf("the next reader gets %q", got)
	}
}

// A Follower that has asked by itself, as in the last round of a frame, asks the view
// when it becomes its refresher, and is woken by the next change.
func TestFollowerThatAskedByItselfBecomesRefresher(t *testing.T) {
	w := newWorld(t)
	parked := func() *Follower {
		f := w.views.Follow()
		f.Add("a", "a", get("a"))
		f.frame()
		if !f.park() {
			t.Fatal("not parked")
		}
		return f
	}
	f, leaves := parked(), parked()
	defer f.Close()
	f.takeDirty() // busy
	w.apply(put("a", "1"))
	v := w.views.cache.byKey["a"]
	if v.refresher != leaves.waiters[0] {
		t.Fatalf("refresher %+v", v.refresher)
	}
	if dirty, _ := f.takeDirty(); len(dirty) != 1 || !f.park() {
		t.Fatalf("%d are dirty", len(dirty))
	}
	leaves.Close()
	if v.refresher != f.waiters[0] || woken(f.group) != 1 {
		t.Fatalf("refresher %+v", v.refresher)
	}
	<-f.group.woken
	if f.frame(); v.refresher != nil || !v.fresh() || !f.park() {
		t.Errorf("refresher %+v, fresh: %v", v.refresher, v.fresh())
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
		const readers = 3 // one of them is the refresher
		w := newWorld(t)
		w.apply(put("a", "1"))
		done := make(chan Answer, readers)
		min := w.index + 2
		for range readers {
			go func() {
				ans, err := w.views.Read(t.Context(), "a", get("a"), min, time.Hour)
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
