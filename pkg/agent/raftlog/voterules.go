package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Raft votes once in a term, and terms only rise (section 5.2 of the raft paper):
// all that it promises rests on that, so it is checked where it is written, and
// withReserve where it is read, whoever wrote it. And a vote is one thing. Raft stores
// its term and then its candidate; a stop between the two would leave the former
// candidate with a vote in the new term, which raft then confirms without a look at
// the log that this candidate has. So the term waits for the candidate, and both
// are written at once.

// ErrVote is in the chain of every error about a term that falls, or a second vote
// in a term.
var ErrVote = errors.New("against raft's rules of voting")

// What raft calls its values.
const (
	TermKey      = "CurrentTerm"
	VoteTermKey  = "LastVoteTerm"
	CandidateKey = "LastVoteCand"
)

// voteState is the values that the rules are about.
type voteState struct {
	term, voteTerm uint64
	candidate      []byte // empty: none yet
}

func voteStateOf(values map[string][]byte) voteState {
	return voteState{term: uint64Of(values[TermKey]), voteTerm: uint64Of(values[VoteTermKey]), candidate: values[CandidateKey]}
}

// uint64Of is 0 for what is none.
func uint64Of(val []byte) uint64 {
	if len(val) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(val)
}

// valid says what one ballot must not say.
func (b voteState) valid() error {
	if b.voteTerm > b.term {
		return fmt.Errorf("a vote in term %d while the term is %d is %w", b.voteTerm, b.term, ErrVote)
	}
	return nil
}

// canFollow says what may not follow a ballot. A term of 1 that no vote was given in
// may be taken back: it is what a bootstrap that was killed leaves behind.
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

// canReplace says whether one ballot may be written over another one. That is more than
// a reader can ask for: versions that wrote a vote's term and its candidate one
// after the other left both candidates on disk.
func (b voteState) canReplace(next voteState) error {
	if next.voteTerm > 0 && next.voteTerm == b.voteTerm && len(b.candidate) > 0 && !bytes.Equal(b.candidate, next.candidate) {
		return fmt.Errorf("a vote for %q in term %d, in which %q has it, is %w", next.candidate, next.voteTerm, b.candidate, ErrVote)
	}
	return b.canFollow(next)
}
