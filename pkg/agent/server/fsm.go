package server

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
)

// fsm applies committed entries to the state and publishes the result. Raft calls it
// from one goroutine.
type fsm struct {
	store   *state.Store
	views   *view.Views
	applied func() // called after each publication
	// fail stops this server: others have applied the entry that it cannot read.
	fail func(error)
}

// Apply exists for raft's interface; batches go to ApplyBatch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	entries := make([]state.Entry, len(logs))
	for i, l := range logs {
		entries[i] = state.Entry{Index: l.Index, Data: l.Data}
	}
	results, touched := f.store.ApplyBatch(entries)
	for i, result := range results {
		if err, ok := result.(*state.Unreadable); ok {
			f.fail(err)
			return results[:i] // they are not delivered
		}
	}
	f.views.Publish(f.store.Snapshot(), touched)
	f.applied()
	return results
}

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return fsmSnapshot{f.store.Snapshot()}, nil
}

func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.store.Restore(r); err != nil {
		err = fmt.Errorf("restore a snapshot: %w", err)
		f.fail(err) // raft would fetch it again for ever
		return err
	}
	f.views.PublishAll(f.store.Snapshot())
	f.applied()
	return nil
}

// fsmSnapshot is written while the state goes on changing.
type fsmSnapshot struct{ snap *state.Snapshot }

func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.snap.Write(sink); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write snapshot %s: %w", sink.ID(), err)
	}
	return sink.Close()
}

func (fsmSnapshot) Release() {}
