// Package seal keeps raft's log and votes so that damage is seen. Neither bolt
// nor raft checks what it reads back: a flipped bit in a stored entry would
// become a wrong value on one server, silently.
//
// A Store stands behind raft's own interfaces. It promises:
//
//   - Every entry and every stable value (term, vote) is stored with a CRC-32C
//     and compared with it at every read; a mismatch is an error that names the
//     file and the entry (ErrDamaged), never a value.
//   - What StoreLogs and Set have acknowledged is on disk, and so are the
//     directories that lead to it.
//   - The commit index that was staged goes to disk with the next entries, in
//     the same write, or by StoreCommitIndex in one of its own; GetCommitIndex
//     never exceeds the last entry.
//   - A directory that another process uses, that a newer version wrote, or
//     whose log has gone missing is refused with a message that says so.
//
// The seal of an entry travels in its Extensions, behind the entry's own, and is
// taken off again at reading: raft replicates Extensions, so each server puts
// on its own. See entry.go for the bytes.
package seal

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// ErrDamaged is in the chain of every error about stored bytes that are not
// what was written.
var ErrDamaged = errors.New("damaged")

// ErrLost is in the chain of errors about a log that is not there any more.
var ErrLost = errors.New("its data is lost")

// Store is raft's LogStore, StableStore and CommitTrackingLogStore. It is safe
// for concurrent use, as raft needs it.
type Store struct {
	logs   raft.LogStore
	stable raft.StableStore
	name   string // the file, for errors
	close  func() error

	reserve *reserve // nil in memory

	// staged is the commit index that goes out with the next entries. It only
	// rises: what is committed stays so.
	staged atomic.Uint64
}

var (
	_ raft.CommitTrackingLogStore = (*Store)(nil)
	_ raft.StableStore            = (*Store)(nil)
)

// Memory makes a store that lives as long as the process, for -dev.
func Memory() *Store {
	mem := raft.NewInmemStore()
	return &Store{logs: mem, stable: mem, name: "memory", close: func() error { return nil }}
}

// Close gives the file free. Reads and writes after it fail.
func (s *Store) Close() error { return s.close() }

// FirstIndex is the index of the oldest entry, 0 without entries.
func (s *Store) FirstIndex() (index uint64, err error) {
	defer s.recovered("first entry", &err)
	return s.logs.FirstIndex()
}

// LastIndex is the index of the newest entry, 0 without entries.
func (s *Store) LastIndex() (index uint64, err error) {
	defer s.recovered("last entry", &err)
	return s.logs.LastIndex()
}

// GetLog reads one entry and verifies it. An entry that is not there is
// raft.ErrLogNotFound, unwrapped, because raft compares it.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	_, err := s.get(index, log)
	return err
}

// StoreLog stores one entry.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs seals copies of the entries and stores them with one fsync. The
// entries themselves are not touched: raft is about to replicate and apply them.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	commit := s.staged.Load()
	copies := make([]raft.Log, len(logs))
	sealed := make([]*raft.Log, len(logs))
	for i, log := range logs {
		copies[i] = *log
		copies[i].Extensions = sealEntry(log, commit)
		sealed[i] = &copies[i]
	}
	if err := s.reserve.again(func() error { return s.logs.StoreLogs(sealed) }); err != nil {
		return fmt.Errorf("store %d raft entries in %s: %w", len(logs), s.name, err)
	}
	return nil
}

// DeleteRange deletes the entries from min to max, both included.
func (s *Store) DeleteRange(min, max uint64) error {
	if err := s.reserve.again(func() error { return s.logs.DeleteRange(min, max) }); err != nil {
		return fmt.Errorf("delete raft entries %d to %d in %s: %w", min, max, s.name, err)
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

// StoreCommitIndex puts the commit index on disk by itself, at the price of an
// fsync: without it, what is known of the newest entries lags until others
// follow them.
func (s *Store) StoreCommitIndex(index uint64) error {
	_ = s.StageCommitIndex(index)
	return s.SetUint64([]byte(commitKey), index)
}

// StoredCommitIndex is what StoreCommitIndex stored last.
func (s *Store) StoredCommitIndex() (uint64, error) { return s.GetUint64([]byte(commitKey)) }

// GetCommitIndex is the newest commit index that was stored, with the newest
// entry or by itself; 0 without entries.
func (s *Store) GetCommitIndex() (uint64, error) {
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return 0, err
	}
	var log raft.Log
	with, err := s.get(last, &log)
	if err != nil {
		return 0, err
	}
	alone, err := s.GetUint64([]byte(commitKey))
	if err != nil {
		return 0, err
	}
	return min(max(with, alone), last), nil
}

// get reads and verifies an entry, and gives the commit index stored with it.
func (s *Store) get(index uint64, log *raft.Log) (commit uint64, err error) {
	what := fmt.Sprintf("entry %d", index)
	defer s.recovered(what, &err)

	var stored raft.Log
	switch err := s.logs.GetLog(index, &stored); {
	case err == nil:
	case errors.Is(err, raft.ErrLogNotFound):
		return 0, raft.ErrLogNotFound
	case errors.Is(err, bbolt.ErrDatabaseNotOpen):
		return 0, fmt.Errorf("read %s of %s: %w", what, s.name, err)
	default: // what bolt holds does not decode
		return 0, s.damaged(what, err.Error())
	}
	if stored.Index != index {
		return 0, s.damaged(what, fmt.Sprintf("it says that it is entry %d", stored.Index))
	}
	own, commit, err := unsealEntry(&stored)
	if err != nil {
		return 0, s.damaged(what, err.Error())
	}
	stored.Extensions = own
	*log = stored
	return commit, nil
}

// Set stores a value, with its checksum.
func (s *Store) Set(key, val []byte) error {
	if err := s.reserve.again(func() error { return s.stable.Set(key, sealValue(key, val)) }); err != nil {
		return fmt.Errorf("store raft's %s in %s: %w", key, s.name, err)
	}
	return nil
}

// Get reads a value and verifies it; nil for one that was never set.
func (s *Store) Get(key []byte) (val []byte, err error) {
	what := "value " + string(key)
	defer s.recovered(what, &err)

	stored, err := s.stable.Get(key)
	switch {
	case err == nil:
	case err.Error() == raftboltdb.ErrKeyNotFound.Error(): // the memory store has no sentinel
		return nil, nil
	default:
		return nil, fmt.Errorf("read %s of %s: %w", what, s.name, err)
	}
	val, err = unsealValue(key, stored)
	if err != nil {
		return nil, s.damaged(what, err.Error())
	}
	return val, nil
}

// SetUint64 stores a number, with its checksum.
func (s *Store) SetUint64(key []byte, val uint64) error { return s.Set(key, putUint64(val)) }

// GetUint64 reads a number and verifies it; 0 for one that was never set.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	val, err := s.Get(key)
	if err != nil || val == nil {
		return 0, err
	}
	n, err := takeUint64(val)
	if err != nil {
		return 0, s.damaged("value "+string(key), err.Error())
	}
	return n, nil
}

func (s *Store) damaged(what, why string) error {
	return fmt.Errorf("raft log %s is %w: %s: %s", s.name, ErrDamaged, what, why)
}

// recovered turns a panic into an error: bolt asserts its page structure and
// the decoder trusts its input, and neither ends well on damaged pages.
func (s *Store) recovered(what string, err *error) {
	if r := recover(); r != nil {
		*err = s.damaged(what, fmt.Sprint(r))
	}
}
