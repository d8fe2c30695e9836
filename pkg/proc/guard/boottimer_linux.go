package guard

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// What golang.org/x/sys would give, which this package cannot wait for.
const (
	clockBoottime = 7 // CLOCK_BOOTTIME
	absolute      = 1 // TFD_TIMER_ABSTIME
)

// BootTime is the time since the machine started, sleep included
// (CLOCK_BOOTTIME): the same in all its processes, and nobody can set it.
func BootTime() time.Duration {
	var ts syscall.Timespec
	if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0); err != 0 {
		panic("read CLOCK_BOOTTIME: " + err.Error()) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// bootTimer fires at a BootTime, at once when the machine wakes after it. A timer of
// Go's would count its sleep as no time.
type bootTimer struct {
	fd *os.File
	c  chan struct{}
}

func newBootTimer() *bootTimer {
	t := &bootTimer{c: make(chan struct{}, 1)}
	fd, _, err := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, clockBoottime, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != 0 { // no descriptors left: rather look too often than too late
		go pollTimer(t.c)
		return t
	}
	t.fd = os.NewFile(fd, "timerfd")
	go func() {
		for buf := make([]byte, 8); ; {
			if _, err := t.fd.Read(buf); err != nil {
				return
			}
			t.c <- struct{}{}
		}
	}()
	return t
}

// set makes the timer fire at a time instead of any other; 0 is never.
func (t *bootTimer) set(at time.Duration) {
	if t.fd == nil {
		return
	}
	raw, err := t.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		spec := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(int64(at))}
		_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, fd, absolute, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	})
}
