//go:build !linux

package raftlog

import (
	"errors"
	"os"
)

func allocate(f *os.File, size int64) error { return writeZeros(f, size) }

func openSynced(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

func writeSynced(f *os.File, p []byte, at int64) error {
	_, err := f.WriteAt(p, at)
	return errors.Join(err, f.Sync())
}
