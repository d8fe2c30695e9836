package raftnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/raft"
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
	commit, err := s.log.GetCommitIndex()
	if err != nil {
		return err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return err
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
			s.fsm.replay(batch)
			batch = batch[:0:0]
		}
	}
	s.commitAtStart = max(commit, from)
	s.cfg.Logger.Info("raft's log is read", "snapshot", from, "committed", s.commitAtStart, "last", max(last, from))
	return nil
}

func (s *server) replayError(index, from uint64, err error) error {
	if errors.Is(err, raft.ErrLogNotFound) {
		return fmt.Errorf("raft log in %s has a hole: the newest snapshot ends at entry %d and entry %d is missing", s.cfg.DataDir, from, index)
	}
	return err
}

// checkVote reads what raft will read only when it is asked for its vote.
func (s *server) checkVote() error {
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if _, err := s.log.GetUint64([]byte(key)); err != nil {
			return err
		}
	}
	_, err := s.log.Get([]byte("LastVoteCand"))
	return err
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

// checkSnapshots refuses a directory whose newest snapshot the store would pass
// over, because it cannot read its description, in favour of an older one.
func checkSnapshots(dir string, store *raft.FileSnapshotStore) error {
	metas, err := store.List()
	if err != nil {
		return err
	}
	var newest uint64
	if len(metas) > 0 {
		newest = metas[0].Index
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		var term, index, millis uint64
		if _, err := fmt.Sscanf(entry.Name(), "%d-%d-%d", &term, &index, &millis); err != nil {
			continue // not a snapshot's name
		}
		if index > newest {
			return fmt.Errorf("snapshot %s is damaged: its meta.json cannot be read", entry.Name())
		}
	}
	return nil
}
