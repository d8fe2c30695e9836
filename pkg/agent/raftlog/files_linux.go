package raftlog

import (
	"errors"
	"os"
	"syscall"
)

// allocate gives a file its blocks.
func allocate(f *os.File, size int64) error {
	err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return writeZeros(f, size)
	}
	return err
}

// openSynced opens a file so that each write waits for the disk, with one system call
// instead of write and fdatasync.
func openSynced(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|syscall.O_DSYNC, 0)
}

func writeSynced(f *os.File, p []byte, at int64) error {
	_, err := f.WriteAt(p, at)
	return err
}
