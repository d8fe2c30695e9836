package view

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
)

// Follower reads many queries as one: each frame is what all of them answer at
// one raft index, so that nobody sees half of a transaction. Indexes may be
// skipped, never split. It keeps of each query what it needs to know whether
// there is news, and no answer. It belongs to one goroutine, which ends it with
// Close.
type Follower struct {
	board   *Board
	group   *group
	waiters []*waiter
}

// A Change is a new answer to the query that was added under that name. It may
// be one that the caller has had before; where it has an Encoding, that is
// another than the last.
type Change struct {
	Name   string
	Answer Answer
}

// patience is how often a frame is begun anew because the state has moved on,
// before its queries are asked at one snapshot, by themselves.
const patience = 8

// Follow makes a follower of nothing yet.
func (b *Board) Follow() *Follower {
	f := &Follower{board: b, group: newGroup()}
	f.group.follow = true
	return f
}

// Add follows one more query, which shares its view with all that have the same
// key; see Board.Read. Its first answer is in the next frame.
func (f *Follower) Add(name, key string, q Query) {
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	v := f.board.views.find(key)
	w := &waiter{view: v, group: f.group, name: name, query: q}
	f.waiters = append(f.waiters, w)
	f.board.join(w)
	f.board.views.list(v)
	w.mark()
}

// Close follows nothing any more.
func (f *Follower) Close() {
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	for _, w := range f.waiters {
		f.board.part(w, true)
	}
	f.waiters = nil
}

// Next returns the index of the newest state and what changed since the frame
// before: as soon as an answer did, or, with nothing changed, after the given
// time.
func (f *Follower) Next(ctx context.Context, quiet time.Duration) (uint64, []Change, error) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for over := false; ; {
		index, changes := f.frame()
		if over || len(changes) > 0 {
			return index, changes, nil
		}
		// What was marked since frame looked has woken nobody, and need not: it
		// looks again before it waits.
		if !f.park() {
			continue
		}
		select {
		case <-f.group.woken:
		case <-timer.C:
			over = true
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

// frame asks what is dirty until nothing is: then all answers are those of the
// newest state. Where that moves on faster than they can be asked, the last
// round is asked at one snapshot.
func (f *Follower) frame() (uint64, []Change) {
	var changes []Change
	seen := map[*waiter]int{} // place in changes
	for try := 0; ; try++ {
		dirty, snap := f.take()
		for _, w := range dirty {
			var ans Answer
			if try < patience {
				ans = f.board.ask(w.view, w.query)
			} else {
				ans = w.query(snap)
			}
			if ans.Encoding != nil && ans.Encoding == w.last {
				continue
			}
			w.last = ans.Encoding
			if at, again := seen[w]; again {
				changes[at].Answer = ans
				continue
			}
			seen[w] = len(changes)
			changes = append(changes, Change{w.name, ans})
		}
		if len(dirty) == 0 || try == patience {
			return snap.Index(), changes
		}
	}
}

// take hands out what is dirty together with the snapshot that it is dirty
// against: whatever else the Follower has asked is the same there as when it was
// asked.
func (f *Follower) take() ([]*waiter, *state.Snapshot) {
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	f.group.parked = false
	dirty := f.group.dirty
	f.group.dirty = nil
	for _, w := range dirty {
		w.dirty = false
	}
	return dirty, f.board.current.Load()
}

// park says that the Follower waits, if nothing is dirty.
func (f *Follower) park() bool {
	f.board.mu.Lock()
	defer f.board.mu.Unlock()
	f.group.parked = len(f.group.dirty) == 0
	return f.group.parked
}
