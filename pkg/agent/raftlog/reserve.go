package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/muster-dev/muster/pkg/durable"
)

// On a full disk raft gives up leadership, and with it reads, and panics when it cannot
// store its term. So commands are refused while there is still space for raft's own few
// writes, and a reserve file is deleted to make space for those when there is none.
const (
	reserveFile = "reserve"

	// The reserve: this share of the file system, within these bounds.
	reserveShare = 50 // 2%
	minReserve   = 1 << 20
	maxReserve   = 64 << 20

	// writeFactor is how much space a command needs for each of its bytes: the log
	// writes whole sectors, and leaves the end of a segment unused. A new segment is a
	// small part of the floor.
	writeFactor = 2
)

// ErrFull is in the chain of errors about a full disk.
var ErrFull = errors.New("no space left for writes")

// reserve guards the free space of one directory.
type reserve struct {
	dir    string
	size   uint64 // of the reserve file; twice as much is the floor
	logger *slog.Logger

	mu      sync.Mutex
	held    bool
	pending uint64 // space that the commands under way need
	full    error
}

func newReserve(dir string, logger *slog.Logger) (*reserve, error) {
	r := &reserve{dir: dir, logger: logger}
	total, free, err := space(dir)
	if err != nil {
		return nil, err
	}
	r.size = min(max(total/reserveShare, minReserve), maxReserve)
	if info, err := os.Stat(r.path()); err == nil {
		r.held = info.Size() > 0
	} else if free > r.floor()+2*r.size {
		if err := r.create(); err != nil {
			logger.Warn("could not make the disk reserve", "path", r.path(), "error", err)
		}
	}
	return r, nil
}

func (r *reserve) path() string { return filepath.Join(r.dir, reserveFile) }

// floor is how much space has to be free for commands to be accepted. Once they are
// refused, twice as much has to be free before they are accepted again.
func (r *reserve) floor() uint64 { return 2 * r.size }

func space(dir string) (total, free uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	block := uint64(fs.Bsize)
	return fs.Blocks * block, fs.Bavail * block, nil
}

// claim claims space for a command of so many bytes, or says why there is none. The
// caller calls done when the command is stored, or has failed.
func (r *reserve) claim(size int) (done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	need := uint64(size) * writeFactor
	r.check(need)
	if r.full != nil {
		return nil, r.full
	}
	r.pending += need
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pending -= need
	}, nil
}

// check compares the free space with what the commands under way and more bytes need.
// The caller holds mu.
func (r *reserve) check(more uint64) {
	_, free, err := space(r.dir)
	if err != nil {
		r.logger.Warn("cannot tell how full the disk is", "error", err)
		return
	}
	need := r.floor() + r.pending + more
	if r.full != nil {
		need += r.floor()
		if !r.held {
			need += r.size // it has to be made again
		}
	}
	if free < need {
		err := fmt.Errorf("%w in the data directory %s: %.1f MB are free, %.1f are needed: free some space on that file system, or enlarge it; reads go on, and writes will as soon as there is room",
			ErrFull, filepath.Dir(r.dir), float64(free)/(1<<20), float64(need)/(1<<20))
		if r.full == nil {
			r.logger.Error("the disk is full, writes are refused", "error", err)
		}
		r.full = err
		return
	}
	if r.full != nil {
		r.full = nil
		r.logger.Info("there is room on the disk again, writes are accepted", "directory", r.dir)
	}
	if !r.held && free >= need+2*r.size {
		if err := r.create(); err != nil {
			r.logger.Warn("could not make the disk reserve", "path", r.path(), "error", err)
		}
	}
}

// create makes the reserve file, with all its blocks.
func (r *reserve) create() error {
	f, err := os.OpenFile(r.path(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = allocate(f, int64(r.size))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(r.path()))
	}
	r.held = true
	return durable.SyncDir(r.dir)
}

// release deletes the reserve file, for raft's own writes; false if there is none.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		return false
	}
	r.held = false
	if err := os.Remove(r.path()); err != nil {
		r.logger.Error("could not give up the disk reserve", "path", r.path(), "error", err)
		return false
	}
	r.logger.Warn("the disk is full: the reserve is given up for raft's own writes", "path", r.path(), "bytes", r.size)
	return true
}

// withReserve runs a write, and again after releasing the reserve if there was no space.
func (r *reserve) withReserve(write func() error) error {
	err := write()
	if r != nil && errors.Is(err, syscall.ENOSPC) && r.release() {
		err = write()
	}
	return err
}

// ClaimSpace claims space for a command of so many bytes, or says that the disk is full
// (ErrFull). The caller calls done when the command is stored, or has failed. A store in
// memory has no limit.
func (s *Store) ClaimSpace(size int) (done func(), err error) {
	if s.reserve == nil {
		return func() {}, nil
	}
	return s.reserve.claim(size)
}

// CheckSpace is to be called every few seconds: it detects that there is space again, and
// makes the reserve file again. Its error says why commands are refused.
func (s *Store) CheckSpace() error {
	if s.reserve == nil {
		return nil
	}
	s.reserve.mu.Lock()
	defer s.reserve.mu.Unlock()
	s.reserve.check(0)
	return s.reserve.full
}
