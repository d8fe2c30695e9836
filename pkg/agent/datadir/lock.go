// Package datadir is what all parts of an agent share on disk: the directory itself,
// held by one process at a time, and the node id.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-dev/muster/pkg/durable"
)

// Lock creates the directory where it is missing, and checks that it can
// be written and that no other agent uses it. The lock is held until release; it
// goes with the process, however that ends.
func Lock(dir string) (release func(), err error) {
	if err := durable.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write to data directory: %w; make it writable for this user or set data_dir", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is in use by another agent; stop that one or set data_dir", dir)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return func() { _ = lock.Close() }, nil
}
