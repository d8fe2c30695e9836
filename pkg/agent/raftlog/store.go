// Package raftlog is raft's log, votes and snapshots on disk, kept so that damage is
// seen. Raft does not check what it reads back: a flipped bit in a stored entry
// would become a wrong value on one server, silently.
//
// A Store stands behind raft's own interfaces. It promises:
//
//   - What StoreLogs, DeleteRange and Set have acknowledged is on disk, and so are
//     the directories that lead to it. Each costs one write that waits for the
//     disk, into blocks that the file has already.
//   - Every byte is under a CRC-32C that also says where it belongs, and is
//     verified at every read; a mismatch is an error that names the file
//     (ErrDamaged), never a value. Open reads all of it.
//   - The commit index that was staged goes to disk with the next entries, in
//     the same write, or by StoreCommitIndex in one of its own; GetCommitIndex
//     never exceeds the last entry.
//   - A directory that another process uses, that another format was written in,
//     or whose log has gone missing is refused with a message that says so.
//
// # Torn or damaged
//
// A machine that loses its power while a batch is written leaves a part of it. Open
// has to take that back, and must never take back what was acknowledged. It can
// tell them apart because:
//
//  1. Batches are numbered and written one after the other, each after the one
//     before it was on disk. So at most the newest one is torn, and a whole batch
//     behind another one says that that one was acknowledged.
//  2. A disk writes a sector of 512 bytes or does not. Sectors belong to one batch
//     only and carry its number. So each sector of a torn batch is good or blank.
//  3. A write that failed is wiped out before another one takes its place, so that
//     behind the newest batch everything is blank.
//
// So Open takes a batch back if and only if it is the last one, at least one of its
// sectors is blank, and all the others are good. A flipped bit makes a sector that
// is neither: refused, even in the last batch. What is left is an acknowledged last
// batch that had sectors *blanked* afterwards. Its content cannot tell it from a
// torn one, so its number is kept elsewhere: each write of the votes file, at least
// one a second while there are writes and one when they pause, says which batch is
// on disk; so does Close; and each batch is noted in that file, without waiting for
// the disk, which outlives a killed process and, some half a minute later, a power
// cut. A log that ends before the batch that is known is refused. The gap
// that stays: the machine loses its power, and the disk itself blanks sectors of
// what it acknowledged in the last second.
//
// A segment that the log goes on in is on disk before the one before it is ended,
// and is used after that. So a segment without an end is the last one, whatever
// lies behind it was never used, and behind an end another one must be there.
//
// Votes are never taken back: see votes.go.
package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// ErrDamaged is in the chain of every error about stored bytes that are not
// what was written.
var ErrDamaged = errors.New("damaged")

// ErrLost is in the chain of errors about a log that is not there any more.
var ErrLost = errors.New("its data is lost")

// ErrOldFormat is in the chain of the error about a directory in a format that is not
// read any more.
var ErrOldFormat = errors.New("in a former format")

// Store is raft's LogStore, StableStore and CommitTrackingLogStore. It is safe
// for concurrent use, as raft needs it.
type Store struct {
	log     *entryLog
	votes   *votes
	reserve *reserve     // nil in memory
	unlock  func() error // lets another process have the directory

	// staged is the commit index that goes out with the next entries. It only
	// rises: what is committed stays so.
	staged atomic.Uint64
}

var (
	_ raft.CommitTrackingLogStore = (*Store)(nil)
	_ raft.MonotonicLogStore      = (*Store)(nil)
	_ raft.StableStore            = (*Store)(nil)
)

// Close says in the votes file how far the log goes, and gives the directory free.
// Reads and writes after it fail.
func (s *Store) Close() error {
	s.votes.mu.Lock()
	err := s.votes.put(s.votes.values)
	s.votes.mu.Unlock()
	return errors.Join(err, s.log.close(), s.votes.close(), s.unlock())
}

// FirstIndex is the index of the oldest entry, 0 without entries.
func (s *Store) FirstIndex() (uint64, error) {
	first, _ := s.log.bounds()
	return first, nil
}

// LastIndex is the index of the newest entry, 0 without entries.
func (s *Store) LastIndex() (uint64, error) {
	_, last := s.log.bounds()
	return last, nil
}

// IsMonotonic has raft delete all entries when it restores a snapshot, so that
// there is no gap behind it.
func (s *Store) IsMonotonic() bool { return true }

// GetLog reads one entry and verifies it. An entry that is not there is
// raft.ErrLogNotFound, unwrapped, because raft compares it.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	return s.log.get(index, log)
}

// StoreLog stores one entry.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries that follow each other, with one write. They replace
// those from the first one's index on.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	commit := s.staged.Load()
	if err := s.reserve.withReserve(func() error { return s.log.store(logs, commit) }); err != nil {
		return fmt.Errorf("store %d raft entries: %w", len(logs), err)
	}
	return nil
}

// DeleteRange deletes the entries from min to max, both included. They lie at the
// log's beginning or at its end.
func (s *Store) DeleteRange(min, max uint64) error {
	if err := s.reserve.withReserve(func() error { return s.log.deleteRange(min, max) }); err != nil {
		return fmt.Errorf("delete raft entries %d to %d: %w", min, max, err)
	}
	return nil
}

// StageCommitIndex notes the commit index for the entries stored next. A lower
// one than before is ignored.
func (s *Store) StageCommitIndex(index uint64) error {
	for {
		old := s.staged.Load()
		if index <= old || s.staged.CompareAndSwap(old, index) {
			return nil
		}
	}
}

// commitKey is where StoreCommitIndex puts it, among raft's own values.
const commitKey = "CommitIndex"

// StoreCommitIndex puts the commit index on disk by itself, at the price of a
// write: without it, what is known of the newest entries lags until others follow
// them.
func (s *Store) StoreCommitIndex(index uint64) error {
	_ = s.StageCommitIndex(index)
	return s.SetUint64([]byte(commitKey), index)
}

// StoredCommitIndex is what StoreCommitIndex stored last.
func (s *Store) StoredCommitIndex() (uint64, error) { return s.GetUint64([]byte(commitKey)) }

// GetCommitIndex is the newest commit index that was stored, with the newest
// entry or by itself; 0 without entries.
func (s *Store) GetCommitIndex() (uint64, error) {
	last, with := s.log.commit()
	if last == 0 {
		return 0, nil
	}
	alone, err := s.GetUint64([]byte(commitKey))
	if err != nil {
		return 0, err
	}
	return min(max(with, alone), last), nil
}

// Set stores a value: one of a few, and short. A term that falls and a second vote
// in a term are refused with ErrVote; the term of a vote is stored with its
// candidate, which has to follow.
func (s *Store) Set(key, val []byte) error {
	if err := s.reserve.withReserve(func() error { return s.votes.set(string(key), val) }); err != nil {
		return fmt.Errorf("store raft's %s: %w", key, err)
	}
	return nil
}

// Get gives a value, nil for one that was never set.
func (s *Store) Get(key []byte) ([]byte, error) {
	val, _ := s.votes.get(string(key))
	return val, nil
}

// SetUint64 stores a number.
func (s *Store) SetUint64(key []byte, val uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 reads a number; 0 for one that was never set.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	val, ok := s.votes.get(string(key))
	if !ok {
		return 0, nil
	}
	if len(val) != 8 {
		return 0, fmt.Errorf("raft's votes in %s are %w: %s is no number", s.votes.path, ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(val), nil
}
