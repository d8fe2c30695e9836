package render

import (
	"errors"
	"os"
	"syscall"
)

// rename is os.Rename with a name for what happens at a mount point.
func rename(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, syscall.EBUSY) {
		return ErrMountPoint
	}
	return err
}

// keepBackup makes path.bak another name of what is at path.
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
