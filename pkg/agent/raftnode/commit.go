package raftnode

import (
	"context"
	"time"
)

// After a restart, and while there is no leader, a server may answer with what it knows to
// be committed. Under load the commit index goes to disk with the next entries; when
// writes pause, the last one needs a write of its own.
const (
	commitIdle     = 50 * time.Millisecond // a pause: no new entry for so long
	commitMaxDelay = time.Second           // the longest wait for a pause, and after a failure
)

// persistCommitIndex stores the commit index whenever writes pause, and at the end.
// Writes that never pause cost one more fsync a second.
func (s *server) persistCommitIndex() {
	stored, failing := s.commitAtStart, false
	for {
		err := s.fsm.await(context.Background(), stored+1, s.done)
		if stopped := err != nil; stopped && s.fsm.Applied() <= stored {
			return
		} else if !stopped && !failing {
			s.awaitIdle()
		}
		// Raft's own entries are committed too, and not applied.
		index := max(s.fsm.Applied(), s.raft.CommitIndex())
		if err := s.log.StoreCommitIndex(index); err != nil {
			if !failing {
				s.cfg.Logger.Warn("could not store the commit index: after a crash this server may have to wait for a leader before it answers with its newest entries", "index", index, "err", err)
			}
			failing = true
			if !s.sleep(commitMaxDelay) {
				return
			}
			continue
		}
		stored, failing = index, false
	}
}

// awaitIdle returns when nothing was applied for commitIdle, or after commitMaxDelay.
func (s *server) awaitIdle() {
	for waited := time.Duration(0); waited < commitMaxDelay; waited += commitIdle {
		before := s.fsm.Applied()
		if !s.sleep(commitIdle) || s.fsm.Applied() == before {
			return
		}
	}
}

// sleep returns false if raft has stopped meanwhile.
func (s *server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}
