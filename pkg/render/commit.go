package render

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// writeOver writes the content into the existing file. If that fails, as on a full disk,
// it restores the old content.
func (s *Staged) writeOver() error {
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("it is a mount point of its own and has to be written in place: %w", err)
	}
	defer f.Close()
	if err := overwrite(f, s.content); err != nil {
		if back := overwrite(f, s.previous.Content); back != nil {
			return fmt.Errorf("write in place: %w; it may be damaged now, what was there could not be restored: %w", err, back)
		}
		return fmt.Errorf("write in place: %w; what was there is restored", err)
	}
	return s.attributes(f)
}

func overwrite(f *os.File, content []byte) error {
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(content))); err != nil {
		return err
	}
	return f.Sync()
}

// attributes gives a file that was written in place the owner and mode that the
// staged one has.
func (s *Staged) attributes(f *os.File) error {
	info, err := s.temp.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := chown(f, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if now, err := f.Stat(); err == nil && now.Mode()&modeBits == info.Mode()&modeBits {
		return nil
	}
	return f.Chmod(info.Mode() & modeBits)
}

// Restore writes back what a Commit has replaced; a new file stays. It reports whether
// it did anything.
func (r Result) Restore() (bool, error) {
	p := r.Previous
	if !r.Changed || !p.Existed {
		return false, nil
	}
	s, err := Stage(File{
		Path: r.Path, Content: p.Content, Mode: p.Mode, User: strconv.Itoa(p.UID), Group: strconv.Itoa(p.GID),
	})
	if err != nil {
		return false, err
	}
	defer s.Discard()
	_, err = s.Commit()
	return err == nil, err
}

// unwritable reports whether err says that files cannot be created in a directory.
func unwritable(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// keepBackup links path.bak to the file at path.
func keepBackup(path string) error {
	fresh := path + ".bak.new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(path, fresh); err != nil {
		return err
	}
	// Renaming one name of a file over another of the same does nothing.
	defer os.Remove(fresh)
	return os.Rename(fresh, path+".bak")
}
