package raftnode

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/broadcast"
)

// tracker wraps the state machine for raft. It knows what has been applied, and it
// skips what was applied before raft started: raft does not know of that replay and
// delivers those entries again when it learns that they are committed.
type tracker struct {
	inner FSM
	fatal *fatal

	// Only the applying goroutine uses these. delivered is the newest entry that
	// raft has sent, replayed the newest one applied without raft.
	delivered, replayed uint64

	mu      sync.Mutex
	applied uint64
	config  uint64 // index of the newest committed configuration

	rose broadcast.Signal // of applied
}

var _ raft.BatchingFSM = (*tracker)(nil)

// replay applies entries before raft runs.
func (t *tracker) replay(logs []*raft.Log) {
	if len(logs) == 0 {
		return
	}
	if t.apply(logs); t.fatal.get() == nil {
		t.replayed = logs[len(logs)-1].Index
	}
}

// ApplyBatch is called by raft. The batch holds commands and configurations.
func (t *tracker) ApplyBatch(logs []*raft.Log) []any {
	t.delivered = logs[len(logs)-1].Index
	skip := 0
	for skip < len(logs) && logs[skip].Index <= t.replayed {
		skip++
	}
	results := t.apply(logs[skip:])
	if err := t.fatal.get(); err != nil {
		t.fatal.halt(err) // before anybody gets these results
	}
	if skip == 0 {
		return results
	}
	return append(make([]any, skip), results...)
}

// Apply is part of raft's interface; raft calls ApplyBatch instead.
func (t *tracker) Apply(log *raft.Log) any { return t.ApplyBatch([]*raft.Log{log})[0] }

// apply applies the commands and records how far it got. Configurations concern raft
// alone; their result is nil.
func (t *tracker) apply(logs []*raft.Log) []any {
	if len(logs) == 0 {
		return nil
	}
	commands := make([]*raft.Log, 0, len(logs))
	var config uint64
	for _, log := range logs {
		if log.Type == raft.LogCommand {
			commands = append(commands, log)
		} else {
			config = log.Index
		}
	}
	var given []any // the results of the commands
	if len(commands) > 0 {
		given = t.inner.ApplyBatch(commands)
	}
	if t.fatal.get() != nil {
		return nil
	}
	if len(given) != len(commands) {
		panic(fmt.Sprintf("the state machine gave %d results for %d commands", len(given), len(commands)))
	}
	results := given
	if config != 0 {
		results = make([]any, len(logs))
		for i, log := range logs {
			if log.Type == raft.LogCommand {
				results[i], given = given[0], given[1:]
			}
		}
	}
	t.reached(logs[len(logs)-1].Index, config)
	return results
}

// Snapshot refuses while raft is still delivering what was replayed: raft would
// label the state with too low an index, and apply those entries to it twice.
func (t *tracker) Snapshot() (raft.FSMSnapshot, error) {
	if t.delivered < t.replayed {
		return nil, fmt.Errorf("not yet: entries up to %d are applied, but only those up to %d are known to be committed in this run", t.replayed, t.delivered)
	}
	return t.inner.Snapshot()
}

// Restore replaces everything.
func (t *tracker) Restore(source io.ReadCloser) error {
	index := sourceIndex(source)
	if err := t.inner.Restore(source); err != nil {
		return err
	}
	if err := t.fatal.get(); err != nil {
		return err
	}
	t.delivered, t.replayed = 0, 0
	t.reached(index, 0)
	return nil
}

// reached records what the state machine holds now, and wakes those who wait for it.
func (t *tracker) reached(index, config uint64) {
	t.mu.Lock()
	t.applied = max(t.applied, index)
	t.config = max(t.config, config)
	t.mu.Unlock()
	t.rose.Notify()
}

// Applied is the newest entry that the state machine holds.
func (t *tracker) Applied() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.applied
}

// ConfigIndex is the index of the newest committed configuration.
func (t *tracker) ConfigIndex() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.config
}

// await waits until the state machine holds index. It gives up when stopped is
// closed.
func (t *tracker) await(ctx context.Context, index uint64, stopped <-chan struct{}) error {
	if t.Applied() >= index { // the usual case
		return nil
	}
	for {
		rose := t.rose.Changed()
		if t.Applied() >= index {
			return nil
		}
		select {
		case <-rose:
		case <-stopped:
			return ErrNotRunning
		case <-ctx.Done():
			return fmt.Errorf("wait until entry %d is applied: %w", index, context.Cause(ctx))
		}
	}
}

// snapshots tells the tracker which snapshot it restores, and names the one that cannot
// be opened.
type snapshots struct{ raft.SnapshotStore }

func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, source, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return meta, &indexedSource{ReadCloser: source, index: meta.Index}, nil
}

type indexedSource struct {
	io.ReadCloser
	index uint64
}

// sourceIndex finds the index inside the wrappers that raft adds to the source.
func sourceIndex(source io.ReadCloser) uint64 {
	for {
		if s, ok := source.(*indexedSource); ok {
			return s.index
		}
		w, ok := source.(raft.ReadCloserWrapper)
		if !ok {
			return 0
		}
		source = w.WrappedReadCloser()
	}
}
