package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A server votes once in a term, and terms only rise (section 5.2 of the raft paper).
// Everything that raft promises depends on that, so it is checked at every write and
// again when the file is read. And a vote is stored as a whole. Raft stores its term first
// and then its candidate; a stop between the two would leave the former candidate with a
// vote in the new term, which raft would confirm without comparing that candidate's log.
// So the term is held back until the candidate is set, and both are written at once.

// ErrVote is in the chain of every error about a term that falls, or a second vote
// in a term.
var ErrVote = errors.New("against raft's rules of voting")

// The keys of raft's values.
const (
	TermKey      = "CurrentTerm"
	VoteTermKey  = "LastVoteTerm"
	CandidateKey = "LastVoteCand"
)

// voteState is the values that these rules concern.
type voteState struct {
	term, voteTerm uint64
	candidate      []byte // empty: none yet
}

func voteStateOf(values map[string][]byte) voteState {
	return voteState{term: uint64Of(values[TermKey]), voteTerm: uint64Of(values[VoteTermKey]), candidate: values[CandidateKey]}
}

// uint64Of decodes a value; 0 for one that is no number.
func uint64Of(val []byte) uint64 {
	if len(val) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(val)
}

// valid says what is wrong with one state by itself.
func (b voteState) valid() error {
	if b.voteTerm > b.term {
		return fmt.Errorf("a vote in term %d while the term is %d is %w", b.voteTerm, b.term, ErrVote)
	}
	return nil
}

// canFollow says why a state may not follow this one. A term of 1 without a vote may be
// reset: a bootstrap that was killed leaves it.
func (b voteState) canFollow(next voteState) error {
	undone := b.term == 1 && next.term == 0 && b.voteTerm == 0
	switch {
	case next.term < b.term && !undone:
		return fmt.Errorf("term %d after term %d is %w", next.term, b.term, ErrVote)
	case next.voteTerm < b.voteTerm:
		return fmt.Errorf("a vote in term %d after one in term %d is %w", next.voteTerm, b.voteTerm, ErrVote)
	}
	return next.valid()
}

// canReplace says why a state may not be written after this one. It is stricter than
// canFollow, which readers use: versions that wrote the term and the candidate of a vote
// one after the other left two candidates of a term on disk.
func (b voteState) canReplace(next voteState) error {
	if next.voteTerm > 0 && next.voteTerm == b.voteTerm && len(b.candidate) > 0 && !bytes.Equal(b.candidate, next.candidate) {
		return fmt.Errorf("a vote for %q in term %d, in which %q has it, is %w", next.candidate, next.voteTerm, b.candidate, ErrVote)
	}
	return b.canFollow(next)
}
