package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/durable"
)

const (
	versionFile = "version"

	// formatVersion is that of the directory: its files and what is in them.
	formatVersion = 2

	// lockWait is how long another process may take to unlock the directory: one that
	// is being restarted still closes it.
	lockWait = time.Second
	lockTry  = 20 * time.Millisecond

	// A segment's size is a part of the disk reserve, within these bounds.
	segmentShare     = 4
	minSegmentOnDisk = 256 << 10
	maxSegmentOnDisk = 4 << 20
	segmentInMemory  = 64 << 10
)

// Open opens the log in dir, and makes it where there is none yet.
func Open(dir string, logger *slog.Logger) (_ *Store, err error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory %s: %w", dir, err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = unlock()
		}
	}()
	exists, err := readVersion(dir)
	if err != nil {
		return nil, err
	}
	if err := checkMember(dir, exists); err != nil {
		return nil, err
	}
	reserve, err := newReserve(dir, logger)
	if err != nil {
		return nil, err
	}
	segmentSize := min(max(int64(reserve.size)/segmentShare, minSegmentOnDisk), maxSegmentOnDisk)
	s, err := openFiles(disk{dir}, segmentSize, exists)
	if err != nil {
		return nil, err
	}
	s.reserve, s.unlock = reserve, unlock
	if err := s.mark(dir, exists); err != nil {
		return nil, errors.Join(err, s.log.close(), s.votes.close())
	}
	logger.Debug("raft log opened", "path", dir, "format", formatVersion)
	return s, nil
}

// Memory makes a store that lives as long as the process, for -dev.
func Memory() *Store {
	s, err := openFiles(&memory{held: map[string]*memoryFile{}}, segmentInMemory, false)
	if err != nil {
		panic(err) // nothing in memory can fail
	}
	return s
}

// openFiles opens votes and log. exists says that they were made before.
func openFiles(dir files, segmentSize int64, exists bool) (*Store, error) {
	v, err := findVotes(dir, exists)
	if err != nil {
		return nil, err
	}
	s := &Store{votes: v, unlock: func() error { return nil }}
	if s.log, err = openLog(dir, segmentSize, v.newest.Load(), v.stored); err == nil {
		var commit uint64
		if commit, err = s.GetCommitIndex(); err == nil {
			return s, s.StageCommitIndex(commit)
		}
		err = errors.Join(err, s.log.close())
	}
	return nil, errors.Join(err, v.close())
}

// findVotes opens the votes of a directory that was in use, which must have a log, too.
// In a new directory, a first start may have been interrupted: it had no entries, so its
// files are made again.
func findVotes(dir files, exists bool) (*votes, error) {
	segments, err := dir.names(segmentPrefix)
	if err != nil {
		return nil, fmt.Errorf("read the directory of raft's log: %w", err)
	}
	if exists {
		there, err := dir.names(votesFile)
		if err == nil && len(there) == 0 {
			return nil, fmt.Errorf("raft's votes in %s are gone, so that this server may not start again under its old id: %w", dir.path(votesFile), ErrLost)
		}
		if err == nil && len(segments) == 0 {
			return nil, fmt.Errorf("raft log %s is gone, so that this server may not start again under its old id: %w", dir.path(segmentName(1)), ErrLost)
		}
		return openVotes(dir)
	}
	if len(segments) > 1 || (len(segments) == 1 && !unused(dir, segments[0])) {
		return nil, fmt.Errorf("open raft log %s: there is no %s file beside it, so muster did not write it: use another data directory, or move this one away", dir.path(segments[0]), versionFile)
	}
	for _, name := range segments {
		if err := dir.remove(name); err != nil {
			return nil, fmt.Errorf("make raft's log anew: %w", err)
		}
	}
	return makeVotes(dir)
}

// mark records that a new directory is complete; it is the last step.
func (s *Store) mark(dir string, exists bool) error {
	if !exists {
		// It syncs the directory, and with that the other files' names.
		text := []byte(strconv.Itoa(formatVersion) + "\n")
		if err := durable.WriteFile(filepath.Join(dir, versionFile), text, 0o600); err != nil {
			return fmt.Errorf("write format of the data directory: %w", err)
		}
	}
	// After the version: a crash in between leaves a log without this mark, which the
	// next start adds; a mark without a log means that the log was lost.
	return markMember(dir)
}

// lock keeps other processes out of the directory.
func lock(dir string) (unlock func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	for began := time.Now(); ; time.Sleep(lockTry) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f.Close, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", dir, err), f.Close())
		case time.Since(began) > lockWait:
			_ = f.Close()
			return nil, fmt.Errorf("open data directory %s: it is in use by another process", dir)
		}
	}
}

// readVersion says whether the directory was in use before, and refuses one of another
// format.
func readVersion(dir string) (exists bool, err error) {
	path := filepath.Join(dir, versionFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read format of the data directory: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || version < 1 {
		return false, fmt.Errorf("format file %s is %w: it holds %.20q instead of a number", path, ErrDamaged, text)
	}
	if version < formatVersion {
		return false, fmt.Errorf("data directory %s was written by a development version of muster: %w, %d, while this version reads %d: go on with that version, or begin anew with another data directory", dir, ErrOldFormat, version, formatVersion)
	}
	if version > formatVersion {
		return false, fmt.Errorf("data directory %s is from a newer version of muster: it has format %d, this version reads %d: start the newer version again", dir, version, formatVersion)
	}
	return true, nil
}
