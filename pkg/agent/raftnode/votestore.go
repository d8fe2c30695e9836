package raftnode

import (
	"errors"
	"fmt"

	"github.com/muster-dev/muster/pkg/agent/raftlog"
)

// voteStore is raft's StableStore. Raft panics when it cannot store its term, and logs a
// refused vote as one that could not be stored. With voteStore the server stops in order
// instead, and its error names the file and the reason.
type voteStore struct {
	*raftlog.Store
	fatal *fatal
}

func (v voteStore) SetUint64(key []byte, val uint64) error {
	err := v.Store.SetUint64(key, val)
	if err != nil && (string(key) == raftlog.TermKey || errors.Is(err, raftlog.ErrVote)) {
		v.halt(err)
	}
	return err
}

func (v voteStore) Set(key, val []byte) error {
	err := v.Store.Set(key, val)
	if errors.Is(err, raftlog.ErrVote) {
		v.halt(err)
	}
	return err
}

func (v voteStore) halt(err error) {
	hint := "see to the disk and start it again"
	if errors.Is(err, raftlog.ErrVote) {
		hint = "start it again; if that does not help, start once with -repair to rejoin the others as a new server"
	}
	v.fatal.halt(fmt.Errorf("a server that cannot store its vote must not give it, so it stops: %w; %s", err, hint))
}
