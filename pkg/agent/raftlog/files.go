package raftlog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/muster-dev/muster/pkg/durable"
)

// files is a directory of files: on disk, in memory for -dev, or in tests on a machine
// that loses power.
type files interface {
	// names lists the files whose names have this prefix, in order.
	names(prefix string) ([]string, error)
	// create makes a file of size zeros, or replaces one. When it returns, the file,
	// its blocks and its name are on disk.
	create(name string, size int64) (file, error)
	open(name string) (file, error)
	remove(name string) error
	// path is the file's name for messages.
	path(name string) string
}

type file interface {
	io.ReaderAt
	// write returns when the bytes are on disk.
	write(p []byte, at int64) error
	// writeLazy writes bytes that may reach the disk much later, or never.
	writeLazy(p []byte, at int64) error
	size() (int64, error)
	close() error
}

type disk struct{ dir string }

func (d disk) path(name string) string { return filepath.Join(d.dir, name) }

func (d disk) names(prefix string) ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func (d disk) create(name string, size int64) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = allocate(f, size)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(d.path(name)))
	}
	if err := durable.SyncDir(d.dir); err != nil {
		return nil, err
	}
	return d.open(name)
}

func (d disk) open(name string) (file, error) {
	f, err := openSynced(d.path(name))
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f}, nil
}

func (d disk) remove(name string) error { return durable.Remove(d.path(name)) }

// diskFile writes through its File, which waits for the disk, and lazily through another
// one, which does not.
type diskFile struct {
	*os.File
	lazy *os.File
}

func (f *diskFile) write(p []byte, at int64) error { return writeSynced(f.File, p, at) }

func (f *diskFile) writeLazy(p []byte, at int64) error {
	if f.lazy == nil {
		lazy, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		f.lazy = lazy
	}
	_, err := f.lazy.WriteAt(p, at)
	return err
}

func (f *diskFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *diskFile) close() error {
	err := f.Close()
	if f.lazy != nil {
		err = errors.Join(err, f.lazy.Close())
	}
	return err
}

// memory keeps files in memory.
type memory struct {
	mu   sync.Mutex
	held map[string]*memoryFile
}

func (m *memory) path(name string) string { return "memory/" + name }

func (m *memory) names(prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.held {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names, nil
}

func (m *memory) create(name string, size int64) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &memoryFile{data: make([]byte, size)}
	m.held[name] = f
	return f, nil
}

func (m *memory) open(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.held[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memory) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, name)
	return nil
}

type memoryFile struct {
	mu   sync.RWMutex
	data []byte
}

func (f *memoryFile) ReadAt(p []byte, at int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := 0
	if at < int64(len(f.data)) {
		n = copy(p, f.data[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) write(p []byte, at int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(f.data[at:], p)
	return nil
}

func (f *memoryFile) writeLazy(p []byte, at int64) error { return f.write(p, at) }
func (f *memoryFile) size() (int64, error)               { return int64(len(f.data)), nil }
func (f *memoryFile) close() error                       { return nil }
