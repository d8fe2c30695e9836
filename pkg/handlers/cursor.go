package handlers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/durable"
)

// cursor says what one watch has delivered. With a directory it has a file, which the
// next process reads; a second file is locked while the watch runs.
type cursor struct {
	path   string // "": no file
	values bool   // the file may hold the values of items, not only their hashes
	lock   *os.File
	last   *delivered // nil: nothing was delivered
}

// delivered is the contents of that file.
type delivered struct {
	Version int
	Watch   identity
	Index   uint64
	Hash    string   // of what was handed over
	Events  []string `json:",omitempty"` // ids, oldest first
	Items   []item   `json:",omitempty"` // for changes: the state before
	Salt    string   `json:",omitempty"` // of the items' hashes
	Since   uint64   `json:",omitempty"` // index of the last durable event
	Unacked []string `json:",omitempty"` // ids of durable events that are not acknowledged yet
}

const (
	cursorVersion = 1
	// maxKnownEvents is how many ids of delivered events a cursor holds: twice what an
	// agent keeps.
	maxKnownEvents = 512
)

// errNoCursor says that the directory of cursors cannot be used.
var errNoCursor = errors.New("remember what was delivered")

// ErrInUse says that another process runs the same watch.
var ErrInUse = errors.New("this watch is delivered by another process already")

// openCursor locks and reads the cursor of a watch; dir "" means no file. values says that
// the file may hold the values of items, which may be secrets.
func openCursor(dir string, id identity, values bool) (*cursor, error) {
	if dir == "" {
		return &cursor{}, nil
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCursor, err)
	}
	base := cursorBase(dir, id)
	lock, err := lockFile(base + ".lock")
	if err != nil {
		return nil, err
	}
	c := &cursor{path: base + ".json", values: values, lock: lock}
	if c.last, err = readCursor(c.path); err != nil {
		c.close()
		return nil, err
	}
	c.touch()
	if c.last == nil {
		return c, nil
	}
	c.last.Watch = id
	if !values && slices.ContainsFunc(c.last.Items, func(it item) bool { return it.Data != nil }) {
		if err := c.save(c.last); err != nil { // written by an earlier version, or with another configuration
			c.close()
			return nil, fmt.Errorf("%w: %w", errNoCursor, err)
		}
	}
	return c, nil
}

// cursorBase is the path of a watch's files without their extensions.
func cursorBase(dir string, id identity) string {
	sum := sha256.Sum256(id.bytes())
	return filepath.Join(dir, id.Type+"-"+hex.EncodeToString(sum[:12]))
}

// lastPosition is the index of the last durable event that a watch has delivered, read
// without its lock.
func lastPosition(dir string, id identity) uint64 {
	if d, err := readCursor(cursorBase(dir, id) + ".json"); err == nil && d != nil {
		return d.Since
	}
	return 0
}

// lockFile locks a file, and checks that the path still names it: removeUnused removes
// files under their lock.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoCursor, err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			holder := make([]byte, 32)
			n, _ := f.Read(holder)
			f.Close()
			return nil, fmt.Errorf("%w (process %s, lock %s)", ErrInUse, strings.TrimSpace(string(holder[:n])), path)
		}
		ours, errOurs := f.Stat()
		now, errNow := os.Stat(path)
		if err == nil && (errors.Is(errNow, fs.ErrNotExist) || errOurs == nil && errNow == nil && !os.SameFile(ours, now)) {
			f.Close()
			continue
		}
		if err == nil {
			err = f.Truncate(0)
		}
		if err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%w: lock %s: %w", errNoCursor, path, err)
		}
		return f, nil
	}
}

func readCursor(path string) (*delivered, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var d delivered
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err == nil && d.Version != cursorVersion {
		err = fmt.Errorf("it has version %d, this program knows %d", d.Version, cursorVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was delivered from %s: %w; without the file the watch begins anew", path, err)
	}
	return &d, nil
}

// save replaces the cursor.
func (c *cursor) save(d *delivered) error {
	d.Version = cursorVersion
	c.last = d
	if c.path == "" {
		return nil
	}
	written := *d
	if !c.values && len(d.Items) > 0 {
		written.Salt = rand.Text()
		written.Items = make([]item, len(d.Items))
		for i, it := range d.Items {
			written.Items[i] = item{Key: it.Key, Hash: it.Hash}
			if it.Data != nil {
				written.Items[i].Hash = hashOfItem(written.Salt, it.Data)
			} else {
				written.Salt = d.Salt // the items are as they were read
			}
		}
	}
	data, err := json.Marshal(&written)
	if err != nil {
		return fmt.Errorf("remember what was delivered: %w", err)
	}
	return durable.WriteFile(c.path, append(data, '\n'), 0o600)
}

// touch marks the watch as used, see removeUnused.
func (c *cursor) touch() {
	if c.lock != nil {
		now := time.Now()
		_ = os.Chtimes(c.lock.Name(), now, now) // else it is as old as the last delivery
	}
}

const (
	// touchEvery is how often a running watch touches its file.
	touchEvery = 24 * time.Hour
	// maxUnused is how long the cursor of a watch that does not run is kept.
	maxUnused = 90 * 24 * time.Hour
)

// removeUnused removes the cursors of watches that have not run for maxUnused, except
// those in runs.
func removeUnused(dir string, runs []identity, log *slog.Logger) {
	used := map[string]bool{}
	for _, id := range runs {
		used[cursorBase(dir, id)] = true
	}
	locks, _ := filepath.Glob(filepath.Join(dir, "*.lock"))
	for _, path := range locks {
		base := strings.TrimSuffix(path, ".lock")
		if used[base] || !unused(path) || !unused(base+".json") {
			continue
		}
		lock, err := lockFile(path)
		if err != nil {
			continue // somebody runs it
		}
		if unused(base + ".json") {
			err = os.Remove(base + ".json")
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				err = os.Remove(path)
			}
			if err == nil {
				log.Info("forgot a watch that nobody has run for long", "file", base+".json", "days", int(maxUnused/(24*time.Hour)))
			}
		}
		lock.Close()
	}
}

// unused reports whether a file is absent or was not written for maxUnused.
func unused(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(info.ModTime()) > maxUnused
}

// close unlocks the cursor.
func (c *cursor) close() {
	if c.lock != nil {
		c.lock.Close()
	}
}

// events are the ids of events that were delivered.
func (c *cursor) events() []string {
	if c.last == nil {
		return nil
	}
	return c.last.Events
}
