package render

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody runs f on a thread that may do what uid 65534 may in the file system.
// The thread ends with it.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	needRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is thrown away
		if err := unix.Setfsuid(65534); err != nil {
			done <- err
			return
		}
		if err := unix.Setfsgid(65534); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func bindMount(from, to string) error { return unix.Mount(from, to, "", unix.MS_BIND, "") }
