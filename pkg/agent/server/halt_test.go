package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/raftnode"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// newerState applies whatever it is given, as a later version would.
type newerState struct{ *fsm }

func (newerState) ApplyBatch(logs []*raft.Log) []any { return make([]any, len(logs)) }

// writeAs makes the raft log of a cluster of one that a program has written which
// can read every entry.
func writeAs(t *testing.T, id, dir string, entries ...[]byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node := raftnode.New(raftnode.Config{
		ID: id, Address: ln.Addr().String(), DataDir: dir, FSM: newerState{}, Listener: ln, Logger: logx.Discard(),
		Multiplier: 1, SnapshotThreshold: 16384, SnapshotInterval: 30 * time.Second, TrailingLogs: 10240,
		Dial: func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	if err := node.Started(ctx); err != nil {
		t.Fatal(err)
	}
	if err := node.Bootstrap([]raft.Server{{ID: raft.ServerID(id), Address: raft.ServerAddress(ln.Addr().String())}}); err != nil {
		t.Fatal(err)
	}
	until(t, "it leads", node.IsLeader)
	for _, data := range entries {
		if _, err := node.Propose(ctx, raftnode.Command{Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// A server ends, by itself and by name, at an entry that this program cannot read:
// going on it would be another replica than the others are. So does every new start.
func TestEntryOfANewerVersionEndsTheServer(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	good, err := state.Encode(&state.Reap{}, time.Now(), state.Level)
	if err != nil {
		t.Fatal(err)
	}
	writeAs(t, fmt.Sprintf("00000000-0000-0000-0000-%012x", "s1"), dir, good, []byte{99, 1}, good)
	for range 2 {
		ended := make(chan error, 1)
		ts := startServer(t, testOptions{name: "s1", dir: dir, expect: 1, run: func(s *Server) func(context.Context) error {
			return func(ctx context.Context) error { ended <- s.Run(ctx); return nil }
		}})
		err := <-ended
		if !errors.Is(err, state.ErrNewer) || !strings.Contains(err.Error(), "upgrade this server") {
			t.Errorf("it ends with %v", err)
		}
		if at := ts.Views().Snapshot().Index(); at > 4 {
			t.Errorf("it has gone on to entry %d", at)
		}
		ts.stop()
	}
}

// Only what was surely not proposed may be sent to another leader.
func TestUnknownOutcomesAreNotSentElsewhere(t *testing.T) {
	for err, again := range map[error]bool{
		api.ErrNoLeader:        true,
		raftnode.ErrNotRunning: true,
		fmt.Errorf("%w: %w", api.ErrNoLeader, raftnode.ErrNotRunning):     true,
		fmt.Errorf("%w: %w", api.ErrUnknownWrite, raftnode.ErrNotRunning): false, // raft ended under it
		fmt.Errorf("%w: %w", api.ErrUnknownWrite, context.Canceled):       false,
	} {
		if got := mapRaftError(err); (got == api.ErrNoLeader) != again {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
