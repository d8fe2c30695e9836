package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/muster-dev/muster/pkg/durable"
)

const (
	logFile     = "raft.db"
	versionFile = "version"

	// formatVersion is that of the directory: its files and the seals in them.
	formatVersion = 1

	// lockWait is how long another process may take to let go of the file: one
	// that is being restarted still closes it.
	lockWait = time.Second
)

// Open opens the log in dir, and makes it where there is none yet.
func Open(dir string, logger *slog.Logger) (*Store, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory %s: %w", dir, err)
	}
	path := filepath.Join(dir, logFile)
	known, err := readVersion(dir)
	if err != nil {
		return nil, err
	}
	if err := checkMember(dir, known); err != nil {
		return nil, err
	}
	if err := checkPages(path, known); err != nil {
		return nil, err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{Timeout: lockWait, NoFreelistSync: true},
	})
	if err != nil {
		return nil, openError(path, err)
	}
	s := &Store{logs: bolt, stable: bolt, name: path, close: bolt.Close}
	if s.reserve, err = newReserve(dir, logger); err == nil {
		err = s.begin(dir, known)
	}
	if err != nil {
		_ = bolt.Close()
		return nil, err
	}
	logger.Debug("raft log opened", "path", path, "format", formatVersion)
	return s, nil
}

// begin marks a new directory, and takes up the commit index of an old one.
func (s *Store) begin(dir string, known bool) error {
	if !known {
		// The version file is written last, so a log without one is from a first
		// start that was cut off, and is empty, or it is not ours.
		last, err := s.LastIndex()
		if err != nil {
			return err
		}
		term, err := s.stable.Get([]byte("CurrentTerm"))
		if last != 0 || (err == nil && len(term) > 0) {
			return fmt.Errorf("open raft log %s: there is no %s file beside it, so muster did not write it: use another data directory, or move this one away", s.name, versionFile)
		}
		// It syncs the directory, and with that the log's own name.
		text := []byte(strconv.Itoa(formatVersion) + "\n")
		if err := durable.WriteFile(filepath.Join(dir, versionFile), text, 0o600); err != nil {
			return fmt.Errorf("write format of the data directory: %w", err)
		}
	}
	// After the version: a crash in between leaves a log without the mark, which is
	// made up for here; a mark without a log means that the log was lost.
	if err := markMember(dir); err != nil {
		return err
	}
	commit, err := s.GetCommitIndex()
	if err != nil {
		return err
	}
	return s.StageCommitIndex(commit)
}

// readVersion says whether the directory was in use before, and refuses one
// that a newer muster wrote.
func readVersion(dir string) (known bool, err error) {
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
	if version > formatVersion {
		return false, fmt.Errorf("data directory %s is from a newer version of muster: it has format %d, this version reads up to %d: start the newer version again", dir, version, formatVersion)
	}
	return true, nil
}

// checkPages walks the whole file once before it is opened for writing: bolt
// looks for free pages then, in a goroutine of its own, where a page that is gone
// or garbled ends the process instead of giving an error.
func checkPages(path string, known bool) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() == 0) {
		if known {
			return fmt.Errorf("raft log %s is gone or empty, and with it what this server voted, so that it may not start again under its old id: %w", path, ErrLost)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("open raft log: %w", err)
	}
	// Nobody writes while it is open like this.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return openError(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open raft log: %w", err)
	}
	defer f.Close()
	if err := checkTree(f, checkPair); err != nil {
		return fmt.Errorf("raft log %s is %w: %w", path, ErrDamaged, err)
	}
	return nil
}

// checkPair looks at the keys, which no seal covers: a value under a changed key
// would count as one that was never stored. Entries are verified when they are
// read, all of them before raft starts.
func checkPair(bucket string, key, val []byte) error {
	switch bucket {
	case "logs":
		if len(key) == 8 {
			return nil
		}
	case "conf":
		if _, err := unsealValue(key, val); err != nil {
			return fmt.Errorf("value %.40q: %w", key, err)
		}
		switch string(key) {
		case "CurrentTerm", "LastVoteTerm", "LastVoteCand", commitKey:
			return nil
		}
	}
	return fmt.Errorf("unknown key %.40q in bucket %.40q", key, bucket)
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, bbolt.ErrTimeout):
		return fmt.Errorf("open raft log %s: the data directory is in use by another process", path)
	case errors.Is(err, bbolt.ErrInvalid), errors.Is(err, bbolt.ErrChecksum), errors.Is(err, bbolt.ErrVersionMismatch):
		return fmt.Errorf("raft log %s is %w: %w", path, ErrDamaged, err)
	}
	return fmt.Errorf("open raft log: %w", err)
}
