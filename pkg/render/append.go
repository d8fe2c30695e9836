package render

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Append appends f.Content to a file. A missing file is created with the mode and owner
// of f. It appends all of the content or, on an error, nothing. f.Backup has no effect,
// and Result.Restore restores nothing.
func Append(f File) (Result, error) {
	d, err := resolve(f.Path)
	res := Result{Path: d.path}
	if err == nil {
		err = appendTo(d, f)
	}
	if err != nil {
		return res, fmt.Errorf("append to %s: %w", f.Path, err)
	}
	res.Changed = true
	return res, nil
}

func appendTo(d destination, f File) error {
	if d.stream {
		return d.send(f.Content)
	}
	if err := ensureDir(filepath.Dir(d.path), !f.NoDirs); err != nil {
		return err
	}
	fresh := Previous{UID: -1, GID: -1}
	uid, gid, err := owner(f, fresh)
	if err != nil {
		return err
	}
	_, err = os.Lstat(d.path)
	isNew := errors.Is(err, os.ErrNotExist)
	file, err := os.OpenFile(d.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if isNew {
		if err = chown(file, uid, gid); err == nil {
			err = file.Chmod(wantedMode(f, fresh))
		}
	}
	if err == nil {
		err = appendAll(file, f.Content)
	}
	return errors.Join(err, file.Close())
}

// appendAll appends content, and undoes a partial write, as on a full disk: a retry would
// repeat that part.
func appendAll(file *os.File, content []byte) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err = file.Write(content); err == nil {
		err = file.Sync()
	}
	if err != nil {
		return errors.Join(err, file.Truncate(info.Size()))
	}
	return nil
}

// EndsWith reports whether the file at path, which may be missing, ends with content.
func EndsWith(path string, content []byte) bool {
	d, err := resolve(path)
	if err != nil || d.stream {
		return false
	}
	file, err := os.Open(d.path)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() < int64(len(content)) {
		return false
	}
	tail := make([]byte, len(content))
	_, err = file.ReadAt(tail, info.Size()-int64(len(content)))
	return err == nil && bytes.Equal(tail, content)
}
