package raftnode

import (
	"errors"
	"fmt"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

// ballots is raft's StableStore. Raft panics where it cannot store its term, and
// logs a vote that is refused as one that could not be stored; here the server
// stops in order and says which file it was and why.
type voteStore struct {
	*raftlog.Store
	fatal *fatal
}

func (b voteStore) SetUint64(key []byte, val uint64) error {
	err := b.Store.SetUint64(key, val)
	if err != nil && (string(key) == "CurrentTerm" || errors.Is(err, raftlog.ErrVote)) {
		b.halt(err)
	}
	return err
}

func (b voteStore) Set(key, val []byte) error {
	err := b.Store.Set(key, val)
	if errors.Is(err, raftlog.ErrVote) {
		b.halt(err)
	}
	return err
}

func (b voteStore) halt(err error) {
	hint := "see to the disk and start it again"
	if errors.Is(err, raftlog.ErrVote) {
		hint = "start it again; if that does not help, start once with -repair to rejoin the others as a new server"
	}
	b.fatal.halt(fmt.Errorf("a server that cannot store its vote must not give it, so it stops: %w; %s", err, hint))
}
