package raftnode

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

// Check reads all that a start on this data directory would read, and says what
// is damaged or lost (raftlog.ErrDamaged, raftlog.ErrLost). Nothing else may use the
// directory meanwhile.
func Check(ctx context.Context, dataDir string, logger *slog.Logger) error {
	fatal := newFatal()
	s := &server{
		cfg:   Config{DataDir: dataDir, Logger: logger},
		fatal: fatal,
		fsm:   &tracker{inner: discardFSM{}, fatal: fatal},
	}
	if err := s.openStores(); err != nil {
		return err
	}
	return errors.Join(s.replay(ctx), s.log.Close())
}

// IsDamage says whether an error is about damaged or lost data, or data in a format
// that is not read any more: a repair helps against these.
func IsDamage(err error) bool {
	return errors.Is(err, raftlog.ErrDamaged) || errors.Is(err, raftlog.ErrLost) || errors.Is(err, raftlog.ErrOldFormat)
}

// discardFSM is a state machine that accepts everything and keeps nothing.
type discardFSM struct{}

func (discardFSM) ApplyBatch(logs []*raft.Log) []any { return make([]any, len(logs)) }
func (discardFSM) Apply(*raft.Log) any               { return nil }

func (discardFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("nothing is kept") }

func (discardFSM) Restore(r io.ReadCloser) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
