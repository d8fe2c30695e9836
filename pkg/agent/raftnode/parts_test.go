package raftnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/api"
)

func command(index uint64) *raft.Log {
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: fmt.Append(nil, index)}
}

func config(index uint64) *raft.Log { return &raft.Log{Index: index, Type: raft.LogConfiguration} }

// TestTrackerSkipsWhatWasReplayed, keeps results beside their entries, and takes
// no snapshot of a state that raft does not know yet.
func TestTrackerSkipsWhatWasReplayed(t *testing.T) {
	fsm := &tape{}
	tr := &tracker{inner: fsm, fatal: newFatal()}
	tr.replay([]*raft.Log{config(1), command(2), command(3)})
	if tr.Applied() != 3 || tr.ConfigIndex() != 1 {
		t.Errorf("after the replay: applied %d, configuration %d", tr.Applied(), tr.ConfigIndex())
	}
	if got := tr.ApplyBatch([]*raft.Log{config(1), command(2)}); !slices.Equal(got, []any{nil, nil}) {
		t.Errorf("replayed entries gave %v", got)
	}
	if _, err := tr.Snapshot(); err == nil {
		t.Error("a snapshot of entries 1 to 3 would be labelled 2")
	}
	got := tr.ApplyBatch([]*raft.Log{command(3), command(4), config(5), command(6)})
	if want := []any{nil, "3:4", nil, "4:6"}; !slices.Equal(got, want) {
		t.Errorf("results %v, want %v", got, want)
	}
	if _, err := tr.Snapshot(); err != nil {
		t.Error(err)
	}
	if want := []string{"2", "3", "4", "6"}; !slices.Equal(fsm.Lines(), want) {
		t.Errorf("applied %q, want %q", fsm.Lines(), want)
	}
	if tr.Applied() != 6 || tr.ConfigIndex() != 5 {
		t.Errorf("applied %d, configuration %d", tr.Applied(), tr.ConfigIndex())
	}
}

// TestTrackerRestore: after it nothing is skipped, and the index is known.
func TestTrackerRestore(t *testing.T) {
	store := raft.NewInmemSnapshotStore()
	sink, err := store.Create(1, 7, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := (tapeSnapshot{"x"}).Persist(sink); err != nil {
		t.Fatal(err)
	}
	_, source, err := snapshots{store}.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	fsm := &tape{}
	tr := &tracker{inner: fsm, fatal: newFatal()}
	tr.replay([]*raft.Log{command(20)})
	tr.applied = 0
	if err := tr.Restore(wrapped{source}); err != nil {
		t.Fatal(err)
	}
	if tr.Applied() != 7 {
		t.Errorf("applied %d after a snapshot at 7", tr.Applied())
	}
	tr.ApplyBatch([]*raft.Log{command(8)})
	if want := []string{"x", "8"}; !slices.Equal(fsm.Lines(), want) {
		t.Errorf("%q, want %q", fsm.Lines(), want)
	}
}

// wrapped is what raft hands to Restore.
type wrapped struct{ io.ReadCloser }

func (w wrapped) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

func TestTrackerAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tracker{inner: &tape{}, fatal: newFatal()}
		var reached atomic.Bool
		go func() {
			if err := tr.await(t.Context(), 3, nil); err != nil {
				t.Error(err)
			}
			reached.Store(true)
		}()
		tr.ApplyBatch([]*raft.Log{command(2)})
		synctest.Wait()
		if reached.Load() {
			t.Error("3 is reached at 2")
		}
		tr.ApplyBatch([]*raft.Log{command(3)})
		synctest.Wait()
		if !reached.Load() {
			t.Error("3 is not reached at 3")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := tr.await(ctx, 4, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		stopped := make(chan struct{})
		close(stopped)
		if err := tr.await(t.Context(), 4, stopped); !errors.Is(err, ErrNotRunning) {
			t.Error(err)
		}
	})
}

// TestHerald: raft is never kept waiting, and the callback hears true and false
// in turn whatever it missed.
func TestHerald(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, done, slow := make(chan bool), make(chan struct{}), make(chan struct{})
		var heard []bool
		h := newLeaderNotifier(from, func(leader bool) {
			heard = append(heard, leader)
			<-slow
		})
		var running sync.WaitGroup
		running.Go(func() { h.run(done) })
		from <- true
		synctest.Wait() // the callback has the first one, and is slow
		from <- false
		for range 4 {
			from <- true
			from <- false
		}
		from <- true
		synctest.Wait()
		close(slow)
		synctest.Wait()
		if want := []bool{true, false, true}; !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
		close(done)
		running.Wait()
		if want := []bool{true, false, true, false}; !slices.Equal(heard, want) {
			t.Errorf("heard %v at the end, want %v", heard, want)
		}
	})
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		future raft.Future
		err    error
		want   error
	}{
		{indexed(0), raft.ErrNotLeader, api.ErrNoLeader},
		{indexed(0), raft.ErrLeadershipTransferInProgress, api.ErrNoLeader},
		{indexed(0), raft.ErrEnqueueTimeout, api.ErrNoLeader},
		{indexed(0), raft.ErrRaftShutdown, api.ErrNoLeader},
		{indexed(9), raft.ErrRaftShutdown, api.ErrUnknownWrite},
		{indexed(9), raft.ErrLeadershipLost, api.ErrUnknownWrite},
		{indexed(9), raft.ErrAbortedByRestore, api.ErrUnknownWrite},
		{indexed(9), errors.New("disk full"), api.ErrUnknownWrite},
		{nil, context.Canceled, api.ErrUnknownWrite},
		{nil, ErrNotRunning, api.ErrUnknownWrite},
	}
	for _, tt := range tests {
		got := outcomeError(tt.future, tt.err)
		if !errors.Is(got, tt.want) || !errors.Is(got, tt.err) || errors.Is(got, api.ErrNoLeader) == errors.Is(got, api.ErrUnknownWrite) {
			t.Errorf("%v of entry %v: %v", tt.err, tt.future, got)
		}
	}
	if err := outcomeError(indexed(9), nil); err != nil {
		t.Error(err)
	}
}

type indexed uint64

func (i indexed) Index() uint64 { return uint64(i) }
func (i indexed) Error() error  { return nil }

// TestReadersWaitForTheStateMachine: committed is not applied.
func TestReadersWaitForTheStateMachine(t *testing.T) {
	for name, ready := range map[string]func(*Node, context.Context) error{
		"VerifyLeader": (*Node).VerifyLeader, "Settle": (*Node).AwaitCommitted,
	} {
		t.Run(name, func(t *testing.T) { testReaderWaits(t, ready) })
	}
}

func testReaderWaits(t *testing.T, ready func(*Node, context.Context) error) {
	c := newCluster(t)
	m := c.start("a", "")
	if err := m.Bootstrap(voters([]*member{m})); err != nil {
		t.Fatal(err)
	}
	c.leader([]*member{m})
	before := commitIndex(m.Node)
	m.tape.mu.Lock() // the state machine hangs
	release := sync.OnceFunc(m.tape.mu.Unlock)
	defer release()
	proposed := make(chan error, 1)
	go func() {
		_, err := m.Propose(context.Background(), Command{Data: []byte("one")})
		proposed <- err
	}()
	until(t, "it is committed", func() bool { return commitIndex(m.Node) > before })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ready(m.Node, short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the reader does not wait for the state machine: %v", err)
	}
	release()
	if err := ready(m.Node, t.Context()); err != nil {
		t.Error(err)
	}
	if got := m.tape.Lines(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the reader sees %q", got)
	}
	if err := <-proposed; err != nil {
		t.Error(err)
	}
}
