// Package raftlog stores raft's log, votes and snapshots on disk so that damage is
// detected. Raft does not check what it reads back: a flipped bit in a stored entry
// would silently become a wrong value on one server.
//
// A Store implements raft's interfaces. It promises:
//
//   - What StoreLogs, DeleteRange and Set have acknowledged is on disk, and so are
//     the directories that lead to it. Each costs one synchronous write into blocks
//     that are allocated already.
//   - Every byte is covered by a CRC-32C that includes its place, and is verified at
//     every read; a mismatch is an error that names the file (ErrDamaged), never a
//     value. Open reads all of it.
//   - The commit index that was staged goes to disk with the next entries, in
//     the same write, or by StoreCommitIndex in its own write; GetCommitIndex
//     never exceeds the last entry.
//   - A directory that another process uses, that another format was written in,
//     or whose log has gone missing is refused with a message that says so.
//
// # Torn or damaged
//
// A machine that loses power while a batch is written leaves a part of it. Open has to
// remove that part, and must never remove what was acknowledged. It can tell them apart
// because:
//
//  1. Batches are numbered and written one after the other, each after the one
//     before it was on disk. So at most the newest one is torn, and a whole batch
//     behind another one says that that one was acknowledged.
//  2. A disk writes a sector of 512 bytes or does not. Sectors belong to one batch
//     only and carry its number. So each sector of a torn batch is good or blank.
//  3. After a failed write its sectors are zeroed before the next write, so that
//     everything after the newest batch is blank.
//
// So Open removes a batch if and only if it is the last one, at least one of its
// sectors is blank, and all the others are good. A sector with a flipped bit is neither
// good nor blank: it is refused, even in the last batch. One case remains: an
// acknowledged last batch some of whose sectors were *blanked* afterwards. Its content
// looks like that of a torn one, so its number is kept elsewhere. Each write of the votes
// file (at least one a second while there are writes, and one when they pause) and Close
// record which batch is on disk. Each batch is recorded in that file too, without waiting
// for the disk; that survives a killed process and, after about half a minute, a power
// cut. A log that ends before the recorded batch is refused. What is not detected: the
// machine loses power, and the disk blanks sectors that it acknowledged in the last
// second.
//
// The next segment is on disk before the present one gets its end mark, and is used after
// that. So a segment without an end mark is the last one, files after it were never used,
// and after an end mark another segment must exist.
//
// Votes are never removed: see votes.go.
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

// ErrLost is in the chain of errors about a log that does not exist any more.
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
	unlock  func() error // gives the directory free for another process

	// staged is the commit index that is stored with the next entries. It only rises.
	staged atomic.Uint64
}

var (
	_ raft.CommitTrackingLogStore = (*Store)(nil)
	_ raft.MonotonicLogStore      = (*Store)(nil)
	_ raft.StableStore            = (*Store)(nil)
)

// Close records in the votes file how far the log goes, and unlocks the directory.
// Later reads and writes fail.
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

// IsMonotonic makes raft delete all entries when it restores a snapshot, so that the log
// has no gap after it.
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

// DeleteRange deletes the entries from min to max, both included. They must be at the
// beginning or at the end of the log.
func (s *Store) DeleteRange(min, max uint64) error {
	if err := s.reserve.withReserve(func() error { return s.log.deleteRange(min, max) }); err != nil {
		return fmt.Errorf("delete raft entries %d to %d: %w", min, max, err)
	}
	return nil
}

// StageCommitIndex sets the commit index that is stored with the next entries. One lower
// than before is ignored.
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

// StoreCommitIndex stores the commit index by itself, at the cost of a write. Without it
// the stored commit index lags until further entries are stored.
func (s *Store) StoreCommitIndex(index uint64) error {
	_ = s.StageCommitIndex(index)
	return s.SetUint64([]byte(commitKey), index)
}

// StoredCommitIndex is what StoreCommitIndex stored last.
func (s *Store) StoredCommitIndex() (uint64, error) { return s.GetUint64([]byte(commitKey)) }

// GetCommitIndex is the newest commit index that was stored, with the newest
// entry or by itself; 0 if there are no entries.
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

// Set stores one of raft's few short values. A term that falls and a second vote in a term
// are refused with ErrVote. The term of a vote is stored together with its candidate,
// which has to be set next.
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
