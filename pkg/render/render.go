// Package render writes files so that no reader ever sees half of one.
//
// A write has three steps, so that a group of files can take each step together:
// Stage puts the content into a hidden file in the destination's directory (fsynced,
// with owner, mode and extended attributes of what it will replace), Check runs a
// command on the staged file, Commit renames it over the destination and fsyncs the
// directory. Until Commit the destination is untouched; a Staged that is not
// committed must be discarded. Staged files of a process that was killed are
// removed when the same destination is staged again.
//
// A file that would not change is not written.
//
// A destination that is a pipe, a character device or a descriptor of our own
// (/dev/stdout) is a stream: it holds nothing to compare with, so that each Commit
// writes to it, and nothing is replaced. Other special files are an error.
//
// A destination that is a mount point of its own (a single file bind-mounted into
// a container) cannot be replaced by renaming: it is written in place, which a
// reader can see half of, and Result says so.
package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-dev/muster/pkg/durable"
)

// MaxSize bounds a file's content, in bytes: that which is written and that which
// is replaced (a destination of this size is a mistake).
const MaxSize = 64 << 20

// File is the wanted content of Path, and its attributes.
type File struct {
	Path    string // symbolic links are followed: their target is replaced
	Content []byte
	Mode    fs.FileMode // 0: that of the existing file, else 0644
	User    string      // name or number, "": owner of the existing file, else ours
	Group   string
	NoDirs  bool // a missing directory is an error instead of being made
	Backup  bool // keep the old file as Path.bak
}

// Result says what a Commit did.
type Result struct {
	Path     string // the file itself, links followed
	Changed  bool   // it was written; false: it was already so
	InPlace  bool   // it was written over, because it is a mount point
	Previous Previous
}

// Previous is the file before Commit, to restore it from.
type Previous struct {
	Existed  bool
	Content  []byte
	Mode     fs.FileMode
	UID, GID int
}

// Staged is a file ready to replace its destination. Use it from one goroutine.
type Staged struct {
	path      string // the destination, links followed
	to        destination
	temp      *os.File // locked; nil: nothing changes, or all is done
	backup    bool
	changed   bool
	inTempDir bool // staged in the directory for temporary files, because its own is closed
	content   []byte
	previous  Previous
}

// Stage prepares f. The caller must Commit or Discard what it returns.
func Stage(f File) (*Staged, error) {
	s, err := stage(f)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", f.Path, err)
	}
	return s, nil
}

func stage(f File) (*Staged, error) {
	if len(f.Content) > MaxSize {
		return nil, fmt.Errorf("the content has %d bytes, more than the limit of %d MiB", len(f.Content), MaxSize>>20)
	}
	to, err := resolve(f.Path)
	if err != nil {
		return nil, err
	}
	path := to.path
	s := &Staged{path: path, to: to, backup: f.Backup, content: f.Content}
	if to.stream {
		s.changed = true
		return s, nil
	}
	if s.previous, err = readPrevious(path); err != nil {
		return nil, err
	}
	uid, gid, err := owner(f, s.previous)
	if err != nil {
		return nil, err
	}
	mode := wantedMode(f, s.previous)
	if p := s.previous; p.Existed && bytes.Equal(p.Content, f.Content) && p.Mode == mode && p.UID == uid && p.GID == gid {
		return s, nil
	}
	s.changed = true
	dir := filepath.Dir(path)
	if err := ensureDir(dir, !f.NoDirs); err != nil {
		return nil, err
	}
	removeStale(path)
	s.temp, err = createTemp(path)
	if unwritable(err) && s.previous.Existed && isMountPoint(path) {
		s.inTempDir = true
		s.temp, err = createTemp(filepath.Join(os.TempDir(), filepath.Base(path)))
	}
	if err != nil {
		return nil, err
	}
	if err := writeStaged(s.temp, f.Content, s.previous, path, uid, gid, mode); err != nil {
		s.Discard()
		return nil, err
	}
	return s, nil
}

// Changed reports whether Commit would write anything.
func (s *Staged) Changed() bool { return s.changed }

// Commit replaces the destination. On an error the destination is as it was,
// except if only the last fsync failed.
func (s *Staged) Commit() (Result, error) {
	res := Result{Path: s.path, Previous: s.previous}
	if s.to.stream {
		return s.send(res)
	}
	if s.temp == nil {
		return res, nil
	}
	defer s.Discard()
	if s.backup && s.previous.Existed {
		if err := keepBackup(s.path); err != nil {
			return res, fmt.Errorf("write %s: keep backup: %w", s.path, err)
		}
	}
	err := errors.New("staged elsewhere")
	if !s.inTempDir {
		err = os.Rename(s.temp.Name(), s.path)
	}
	if s.inTempDir || errors.Is(err, syscall.EBUSY) {
		res.InPlace = true
		err = s.writeOver()
	}
	if err != nil {
		return res, fmt.Errorf("write %s: %w", s.path, err)
	}
	if res.InPlace {
		res.Changed = true
		return res, nil
	}
	s.temp.Close()
	s.temp = nil
	res.Changed = true
	if err := durable.SyncDir(filepath.Dir(s.path)); err != nil {
		return res, fmt.Errorf("write %s: it is written, but may not survive a power cut: %w", s.path, err)
	}
	return res, nil
}

// send is Commit to a stream.
func (s *Staged) send(res Result) (Result, error) {
	defer s.Discard()
	if !s.changed {
		return res, nil
	}
	if err := s.to.send(s.content); err != nil {
		return res, fmt.Errorf("write to %s: %w", s.path, err)
	}
	s.changed, res.Changed = false, true
	return res, nil
}

// Discard removes the staged file. After a Commit it does nothing.
func (s *Staged) Discard() {
	if s.temp == nil {
		return
	}
	os.Remove(s.temp.Name())
	s.temp.Close() // the lock is released last, so that the file is never stale
	s.temp = nil
}

// Write stages f, checks it if c has a command, and commits it.
func Write(ctx context.Context, f File, c Check) (Result, error) {
	s, err := Stage(f)
	if err != nil {
		return Result{Path: f.Path}, err
	}
	defer s.Discard()
	if err := s.Check(ctx, c); err != nil {
		return Result{Path: s.path, Previous: s.previous}, err
	}
	return s.Commit()
}
