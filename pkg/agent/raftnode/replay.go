package raftnode

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

// replayBatch is how many entries go to the state machine at once.
const replayBatch = 256

// replay brings the state machine to what was known to be committed when the
// last run ended: the newest snapshot, then the entries up to the stored commit
// index. It reads everything else that raft will read, too, and says what is
// damaged: raft itself would panic, or quietly take an older snapshot.
func (s *server) replay(ctx context.Context) error {
	if err := s.checkVote(); err != nil {
		return err
	}
	from, err := s.restoreNewest()
	if err != nil {
		return err
	}
	if err := verifyTrailing(s.log, from); err != nil {
		return err
	}
	commit, err := s.log.GetCommitIndex()
	if err != nil {
		return err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	if stored, err := s.log.StoredCommitIndex(); err != nil {
		return err
	} else if stored > max(last, from) {
		return fmt.Errorf("raft log in %s is %w: entry %d was committed and the log ends at %d", s.cfg.DataDir, raftlog.ErrDamaged, stored, max(last, from))
	}
	batch := make([]*raft.Log, 0, replayBatch)
	for index := from + 1; index <= last; index++ {
		log := new(raft.Log)
		if err := s.log.GetLog(index, log); err != nil {
			return s.replayError(index, from, err)
		}
		if index > commit {
			continue // verified, but not known to be committed
		}
		if log.Type == raft.LogCommand || log.Type == raft.LogConfiguration {
			batch = append(batch, log)
		}
		if len(batch) == replayBatch || index == commit {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if s.fsm.replay(batch); s.fatal.get() != nil {
				return s.fatal.get()
			}
			batch = batch[:0:0]
		}
	}
	s.commitAtStart = max(commit, from)
	s.cfg.Logger.Info("raft's log is read", "snapshot", from, "committed", s.commitAtStart, "last", max(last, from))
	return nil
}

func (s *server) replayError(index, from uint64, err error) error {
	if errors.Is(err, raft.ErrLogNotFound) {
		return fmt.Errorf("raft log in %s is %w, it has a hole: the newest snapshot ends at entry %d and entry %d is missing", s.cfg.DataDir, raftlog.ErrDamaged, from, index)
	}
	return err
}

// verifyTrailing reads the entries that the newest snapshot covers: nothing here
// needs them, but a leader sends them to followers that lag. There may be gaps.
func verifyTrailing(log *raftlog.Store, upTo uint64) error {
	first, err := log.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	for index := first; index <= min(upTo, last); index++ {
		if err := log.GetLog(index, new(raft.Log)); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
			return err
		}
	}
	return nil
}

// checkVote reads what raft will read only when it is asked for its vote.
func (s *server) checkVote() error {
	term, err := s.log.GetUint64([]byte(raftlog.TermKey))
	if err != nil {
		return err
	}
	if _, err := s.log.GetUint64([]byte(raftlog.VoteTermKey)); err != nil {
		return err
	}
	if _, err := s.log.Get([]byte(raftlog.CandidateKey)); err != nil {
		return err
	}
	if last, err := s.log.LastIndex(); err != nil || last == 0 || term != 0 {
		return err
	}
	return fmt.Errorf("raft log in %s is %w: it has entries and no term", s.cfg.DataDir, raftlog.ErrDamaged)
}

// restoreNewest gives the index of the newest snapshot, 0 without one.
func (s *server) restoreNewest() (uint64, error) {
	metas, err := s.snaps.List()
	if err != nil || len(metas) == 0 {
		return 0, err
	}
	meta, source, err := s.snaps.Open(metas[0].ID)
	if err != nil {
		return 0, fmt.Errorf("the newest snapshot in %s cannot be used: %w", s.cfg.DataDir, err)
	}
	err = errors.Join(s.fsm.Restore(source), source.Close())
	if err != nil {
		return 0, fmt.Errorf("restore snapshot %s in %s: %w", meta.ID, s.cfg.DataDir, err)
	}
	s.fsm.reached(meta.Index, meta.ConfigurationIndex)
	return meta.Index, nil
}
