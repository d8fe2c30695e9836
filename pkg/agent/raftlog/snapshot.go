package raftlog

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-dev/muster/pkg/durable"
)

// A snapshot is a directory, dir/snapshots/TERM-INDEX-MILLISECONDS:
//
//	state.bin   what the state machine wrote
//	meta.json   one line of JSON (raft's description, size and CRC-32C of
//	            state.bin), then one line with the CRC-32C of the first
//
// It is written under a name that ends in .tmp and renamed when all of it is on
// disk, so a directory without .tmp is whole or damaged.
const (
	snapshotDir = "snapshots"
	stateFile   = "state.bin"
	metaFile    = "meta.json"
	tmpSuffix   = ".tmp"

	maxMeta = 1 << 20 // bytes of a description

	retained = 2 // older snapshots are removed
)

// Snapshots is raft's SnapshotStore. It never uses an older snapshot instead of one that
// cannot be read.
type Snapshots struct {
	dir        string
	logger     *slog.Logger
	checkSpace func() error // an error: no space for another one

	lock sync.Mutex // held during the removal of old ones
}

var _ raft.SnapshotStore = (*Snapshots)(nil)

type snapshotMeta struct {
	raft.SnapshotMeta
	StateSum uint32
}

// OpenSnapshots opens the snapshots beside the log, and removes what an interrupted
// snapshot has left. checkSpace, which may be nil, says why there is no space for another
// one.
func OpenSnapshots(dir string, checkSpace func() error, logger *slog.Logger) (*Snapshots, error) {
	s := &Snapshots{dir: filepath.Join(dir, snapshotDir), logger: logger, checkSpace: checkSpace}
	if s.checkSpace == nil {
		s.checkSpace = func() error { return nil }
	}
	if err := durable.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make snapshot directory: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("read snapshot directory: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() && strings.HasSuffix(entry.Name(), tmpSuffix) {
			if err := os.RemoveAll(filepath.Join(s.dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("remove an interrupted snapshot: %w", err)
			}
		}
	}
	return s, nil
}

// List gives the newest snapshots, the newest first. One that cannot be read is
// an error if, by its name, it is the newest.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var metas []*raft.SnapshotMeta
	for _, name := range names[:min(len(names), retained)] {
		meta, err := s.readMeta(name)
		if err != nil && len(metas) == 0 {
			return nil, err
		}
		if err != nil {
			s.logger.Warn("an older snapshot, which is not needed, is damaged", "error", err)
			continue
		}
		metas = append(metas, &meta.SnapshotMeta)
	}
	return metas, nil
}

// names are the directories of whole snapshots, the newest first.
func (s *Snapshots) names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("read snapshot directory: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if _, ok := parseName(entry.Name()); ok && entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		x, _ := parseName(a)
		y, _ := parseName(b)
		return -cmp.Or(cmp.Compare(x[1], y[1]), cmp.Compare(x[0], y[0]), cmp.Compare(x[2], y[2]))
	})
	return names, nil
}

// parseName gives term, index and time of a snapshot.
func parseName(name string) (n [3]uint64, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != len(n) {
		return n, false
	}
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseUint(part, 10, 64); err != nil {
			return n, false
		}
	}
	return n, true
}

func damagedSnapshot(path, why string) error {
	return fmt.Errorf("snapshot file %s is %w: %s", path, ErrDamaged, why)
}

func (s *Snapshots) readMeta(name string) (*snapshotMeta, error) {
	path := filepath.Join(s.dir, name, metaFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damagedSnapshot(path, "it is gone")
	}
	if err != nil {
		return nil, fmt.Errorf("read a snapshot's description: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err != nil {
		return nil, fmt.Errorf("read a snapshot's description %s: %w", path, err)
	}
	line, sum, ok := bytes.Cut(text, []byte("\n"))
	if !ok || string(sum) != sumLine(line) {
		return nil, damagedSnapshot(path, errMismatch.Error())
	}
	meta := &snapshotMeta{}
	if err := json.Unmarshal(line, meta); err != nil {
		return nil, damagedSnapshot(path, err.Error())
	}
	at, _ := parseName(name)
	if meta.ID != name || meta.Term != at[0] || meta.Index != at[1] {
		return nil, damagedSnapshot(path, "it describes snapshot "+strconv.Quote(meta.ID))
	}
	return meta, nil
}

func sumLine(line []byte) string {
	sum := newSum()
	sum.Write(line)
	return fmt.Sprintf("crc32c %08x\n", sum.Sum32())
}

// Open verifies all of a snapshot, and then gives its content.
func (s *Snapshots) Open(id string) (_ *raft.SnapshotMeta, _ io.ReadCloser, err error) {
	meta, err := s.readMeta(id)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(s.dir, id, stateFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, damagedSnapshot(path, "it is gone")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open a snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	sum := newSum()
	size, err := io.Copy(sum, f)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("read snapshot %s: %w", path, err)
	case size != meta.Size:
		return nil, nil, damagedSnapshot(path, fmt.Sprintf("it has %d bytes instead of %d", size, meta.Size))
	case sum.Sum32() != meta.StateSum:
		return nil, nil, damagedSnapshot(path, errMismatch.Error())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	return &meta.SnapshotMeta, &stateReader{Reader: bufio.NewReaderSize(f, 64<<10), file: f}, nil
}

type stateReader struct {
	*bufio.Reader
	file *os.File
}

// Close may be called twice: by the state machine and by raft.
func (r *stateReader) Close() error {
	if err := r.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Create begins a snapshot.
func (s *Snapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("make a snapshot: unknown version %d", version)
	}
	if err := s.checkSpace(); err != nil {
		return nil, fmt.Errorf("make a snapshot: %w", err)
	}
	id := fmt.Sprintf("%d-%d-%d", term, index, time.Now().UnixMilli())
	dir := filepath.Join(s.dir, id+tmpSuffix)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a snapshot: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, stateFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a snapshot: %w", err), os.RemoveAll(dir))
	}
	sum := newSum()
	return &sink{
		store: s, dir: dir, file: f, sum: sum, out: bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10),
		meta: snapshotMeta{SnapshotMeta: raft.SnapshotMeta{
			Version: version, ID: id, Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex,
		}},
	}, nil
}

// sink is a snapshot that is being written. An error stays: what follows it does
// not make the snapshot whole.
type sink struct {
	store *Snapshots
	dir   string
	file  *os.File
	out   *bufio.Writer
	sum   hash.Hash32
	meta  snapshotMeta
	ended bool
}

func (w *sink) ID() string { return w.meta.ID }

func (w *sink) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	w.meta.Size += int64(n)
	return n, err
}

// Cancel drops the snapshot.
func (w *sink) Cancel() error {
	if w.ended {
		return nil
	}
	w.ended = true
	return errors.Join(w.file.Close(), os.RemoveAll(w.dir))
}

// Close makes the snapshot durable, gives it its name and removes old ones.
func (w *sink) Close() error {
	if w.ended {
		return nil
	}
	w.ended = true
	if err := w.finish(); err != nil {
		return errors.Join(fmt.Errorf("store snapshot %s: %w", w.dir, err), os.RemoveAll(w.dir))
	}
	return w.store.removeOld()
}

func (w *sink) finish() error {
	if err := errors.Join(w.out.Flush(), w.file.Sync(), w.file.Close()); err != nil {
		return err
	}
	w.meta.StateSum = w.sum.Sum32()
	line, err := json.Marshal(w.meta)
	if err != nil {
		return err
	}
	text := append(append(line, '\n'), sumLine(line)...)
	if err := durable.WriteFile(filepath.Join(w.dir, metaFile), text, 0o600); err != nil { // syncs the directory, too
		return err
	}
	if err := os.Rename(w.dir, filepath.Join(w.store.dir, w.meta.ID)); err != nil {
		return err
	}
	return durable.SyncDir(w.store.dir)
}

func (s *Snapshots) removeOld() error {
	s.lock.Lock()
	defer s.lock.Unlock()
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names[min(len(names), retained):] {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("remove an old snapshot: %w", err)
		}
	}
	return nil
}
