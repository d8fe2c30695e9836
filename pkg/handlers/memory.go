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

// memory is what was delivered last by one watch. With a directory it lies in a
// file of its own and outlives us; a second file is locked for as long as
// somebody uses it.
type memory struct {
	path   string // "" keeps it in this process
	values bool   // the file may hold the values of items, not only their hashes
	lock   *os.File
	last   *delivered // nil: nothing ever was
}

// delivered is the contents of that file.
type delivered struct {
	Version int
	Watch   identity
	Index   uint64
	Hash    string   // of what was handed over
	Events  []string `json:",omitempty"` // ids, oldest first
	Items   []item   `json:",omitempty"` // for changes: what they count from
	Salt    string   `json:",omitempty"` // of the items' hashes
	Since   uint64   `json:",omitempty"` // index of the last durable event
	Unacked []string `json:",omitempty"` // ids of durable events that are to be acknowledged yet
}

const (
	memoryVersion = 1
	// maxKnownEvents is how many ids of delivered events are remembered: twice what
	// an agent keeps.
	maxKnownEvents = 512
)

// errNoMemory says that nothing can be remembered in the directory.
var errNoMemory = errors.New("remember what was delivered")

// ErrInUse says that another process delivers the same watch.
var ErrInUse = errors.New("this watch is delivered by another process already")

// openMemory reads what is known of a watch; dir "" is no directory. The values of
// items, which may be secrets, lie in the file only where that is asked for.
func openMemory(dir string, id identity, values bool) (*memory, error) {
	if dir == "" {
		return &memory{}, nil
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoMemory, err)
	}
	base := memoryBase(dir, id)
	lock, err := takeLock(base + ".lock")
	if err != nil {
		return nil, err
	}
	m := &memory{path: base + ".json", values: values, lock: lock}
	if m.last, err = readMemory(m.path); err != nil {
		m.close()
		return nil, err
	}
	m.touch()
	if m.last == nil {
		return m, nil
	}
	m.last.Watch = id
	if !values && slices.ContainsFunc(m.last.Items, func(it item) bool { return it.Data != nil }) {
		if err := m.keep(m.last); err != nil { // of an earlier version, or of another configuration
			m.close()
			return nil, fmt.Errorf("%w: %w", errNoMemory, err)
		}
	}
	return m, nil
}

// memoryBase is the path of a watch's files without what they end in.
func memoryBase(dir string, id identity) string {
	sum := sha256.Sum256(id.bytes())
	return filepath.Join(dir, id.Type+"-"+hex.EncodeToString(sum[:12]))
}

// lastPosition is how far a watch has come, as far as can be told without its lock.
func lastPosition(dir string, id identity) uint64 {
	if d, err := readMemory(memoryBase(dir, id) + ".json"); err == nil && d != nil {
		return d.Since
	}
	return 0
}

// takeLock locks a file, and makes sure that it is still the one of that name: who
// forgets old watches removes it under its lock.
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoMemory, err)
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
			return nil, fmt.Errorf("%w: lock %s: %w", errNoMemory, path, err)
		}
		return f, nil
	}
}

func readMemory(path string) (*delivered, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var d delivered
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err == nil && d.Version != memoryVersion {
		err = fmt.Errorf("it has version %d, this program knows %d", d.Version, memoryVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was delivered from %s: %w; without the file the watch begins anew", path, err)
	}
	return &d, nil
}

// keep remembers a delivery.
func (m *memory) keep(d *delivered) error {
	d.Version = memoryVersion
	m.last = d
	if m.path == "" {
		return nil
	}
	written := *d
	if !m.values && len(d.Items) > 0 {
		written.Salt = rand.Text()
		written.Items = make([]item, len(d.Items))
		for i, it := range d.Items {
			written.Items[i] = item{Key: it.Key, Hash: it.Hash}
			if it.Data != nil {
				written.Items[i].Hash = hashOfItem(written.Salt, it.Data)
			} else {
				written.Salt = d.Salt // all are as they were read
			}
		}
	}
	data, err := json.Marshal(&written)
	if err != nil {
		return fmt.Errorf("remember what was delivered: %w", err)
	}
	return durable.WriteFile(m.path, append(data, '\n'), 0o600)
}

// touch says that the watch is in use, see forget.
func (m *memory) touch() {
	if m.lock != nil {
		now := time.Now()
		_ = os.Chtimes(m.lock.Name(), now, now) // then it is as old as its last delivery
	}
}

const (
	// touchEvery is how often a watch that runs says so.
	touchEvery = 24 * time.Hour
	// forgetAfter is how long what was delivered by a watch that nobody runs is kept.
	forgetAfter = 90 * 24 * time.Hour
)

// forget removes what is known of watches that nobody has run for long, but not of
// those that are about to run.
func forget(dir string, runs []identity, log *slog.Logger) {
	used := map[string]bool{}
	for _, id := range runs {
		used[memoryBase(dir, id)] = true
	}
	locks, _ := filepath.Glob(filepath.Join(dir, "*.lock"))
	for _, path := range locks {
		base := strings.TrimSuffix(path, ".lock")
		if used[base] || !old(path) || !old(base+".json") {
			continue
		}
		lock, err := takeLock(path) // which makes it new, but for us
		if err != nil {
			continue // somebody runs it
		}
		if old(base + ".json") {
			err = os.Remove(base + ".json")
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				err = os.Remove(path)
			}
			if err == nil {
				log.Info("forgot a watch that nobody has run for long", "file", base+".json", "days", int(forgetAfter/(24*time.Hour)))
			}
		}
		lock.Close()
	}
}

// old says that a file is not there, or was not written for long.
func old(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(info.ModTime()) > forgetAfter
}

// close gives the memory free for others.
func (m *memory) close() {
	if m.lock != nil {
		m.lock.Close()
	}
}

// events are the ids of events that were delivered.
func (m *memory) events() []string {
	if m.last == nil {
		return nil
	}
	return m.last.Events
}
