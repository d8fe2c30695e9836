package raftnode

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

// ErrCommittedDeleted is in the chain of the error with which Run ends when raft was
// about to delete entries that are committed.
var ErrCommittedDeleted = errors.New("committed entries were to be deleted")

// logStore is the log that raft gets.
//
// It stores the newest known commit index with every write, which is that of the
// write before; for the last one see persistCommitIndex. Raft would do that itself with
// RestoreCommittedLogs, but in v1.8.0 that option forgets the configurations among the
// entries that it restores, so that a restarted server knows no peers. It also fills a
// channel that nobody reads yet, and hangs once some thousand entries are to be restored.
// So the replay is our own too.
//
// And it never deletes or replaces what is committed and in no snapshot. Raft does that
// when a leader has other entries at those indexes. That cannot happen while all servers
// share one history and remember their votes and acknowledgements. So they do not, and
// the server stops before it does more harm.
type logStore struct {
	*raftlog.Store
	snaps raft.SnapshotStore
	raft  *atomic.Pointer[raft.Raft]

	applied func() uint64
	fail    func(error)
}

func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l *logStore) StoreLogs(logs []*raft.Log) error {
	if r := l.raft.Load(); r != nil {
		if err := l.StageCommitIndex(r.CommitIndex()); err != nil {
			return err
		}
	}
	if len(logs) == 0 {
		return nil
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	if err := l.refuseCommitted(logs[0].Index, last); err != nil { // it replaces all entries from there on
		return err
	}
	return l.Store.StoreLogs(logs)
}

// DeleteRange is called for entries that a snapshot holds, and for the end of the log where
// the leader has other entries.
func (l *logStore) DeleteRange(first, last uint64) error {
	if err := l.refuseCommitted(first, last); err != nil {
		return err
	}
	return l.Store.DeleteRange(first, last)
}

// refuseCommitted refuses to delete entries that are committed and in no snapshot.
func (l *logStore) refuseCommitted(first, last uint64) error {
	if first > last {
		return nil
	}
	committed := l.applied()
	if r := l.raft.Load(); r != nil {
		committed = max(committed, r.CommitIndex(), r.AppliedIndex())
	}
	stored, err := l.GetCommitIndex()
	if err != nil {
		return err
	}
	if committed = max(committed, stored); first > committed {
		return nil
	}
	held := uint64(0)
	metas, err := l.snaps.List()
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	for _, meta := range metas {
		held = max(held, meta.Index)
	}
	from, to := max(first, held+1), min(last, committed)
	if from > to {
		return nil
	}
	err = fmt.Errorf("%w: raft's leader has other entries than this server from index %d on, and this server's are committed up to %d: "+
		"it keeps entries %d to %d and stops. The leader does not share this server's history: its data directory was emptied, put back or copied, or two clusters were mixed. "+
		"Compare `agent operator raft list-peers` and the data of all servers, stop those that lack data, and let them rejoin with empty data directories (no -bootstrap) or with -repair; then start this one again",
		ErrCommittedDeleted, first, committed, from, to)
	l.fail(err)
	return err
}
