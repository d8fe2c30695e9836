// Package durable writes small files that survive a power cut: identity,
// registrations, membership.
//
// It promises that a path holds either what it held or all of what was written,
// and that after a nil error it stays that way whatever happens to the machine:
// file and directory are fsynced before the call returns, and so are the parents
// of a directory that MkdirAll made.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile replaces path with data.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	if err := write(path, data, perm); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func write(path string, data []byte, perm fs.FileMode) (err error) {
	// Each writer has its own temporary name: two may write the same path.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Remove deletes path. If there is no such file, that is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	return err
}

// MkdirAll makes a directory and the parents it lacks.
func MkdirAll(dir string, perm fs.FileMode) error {
	missing := []string{}
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		missing = append(missing, at)
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break // this one exists, and gets the entry of the first new directory
		}
	}
	if err := os.MkdirAll(dir, perm); err != nil {
		return err
	}
	for _, at := range missing[1:] {
		if err := SyncDir(at); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the entries of a directory durable. On a file system that does not
// support it, it does nothing.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
