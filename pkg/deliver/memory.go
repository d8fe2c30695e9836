package deliver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/muster-dev/muster/pkg/durable"
)

// memory is what was delivered last by one watch. With a directory it lies in a
// file of its own and outlives us; a second file is locked for as long as
// somebody uses it.
type memory struct {
	path string // "" keeps it in this process
	lock *os.File
	last *delivered // nil: nothing ever was
}

// delivered is the contents of that file.
type delivered struct {
	Version int
	Watch   identity
	Index   uint64
	Hash    string   // of what was handed over
	Events  []string `json:",omitempty"` // ids, oldest first
	Items   []item   `json:",omitempty"` // for changes: what they count from
	Since   uint64   `json:",omitempty"` // index of the last durable event
	Unacked []string `json:",omitempty"` // ids of durable events that are to be acknowledged yet
}

const (
	memoryVersion = 1
	// maxKnownEvents is how many ids of delivered events are remembered: twice what
	// an agent keeps.
	maxKnownEvents = 512
)

// ErrInUse says that another process delivers the same watch.
var ErrInUse = errors.New("this watch is delivered by another process already")

// openMemory reads what is known of a watch; dir "" is no directory.
func openMemory(dir string, id identity) (*memory, error) {
	if dir == "" {
		return &memory{}, nil
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("remember what was delivered: %w", err)
	}
	base := memoryBase(dir, id)
	lock, err := takeLock(base + ".lock")
	if err != nil {
		return nil, err
	}
	m := &memory{path: base + ".json", lock: lock}
	if m.last, err = readMemory(m.path); err != nil {
		m.close()
		return nil, err
	}
	if m.last != nil {
		m.last.Watch = id
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

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("remember what was delivered: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := make([]byte, 32)
		n, _ := f.Read(holder)
		f.Close()
		return nil, fmt.Errorf("%w (process %s, lock %s)", ErrInUse, strings.TrimSpace(string(holder[:n])), path)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
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
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("remember what was delivered: %w", err)
	}
	return durable.WriteFile(m.path, append(data, '\n'), 0o600)
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
