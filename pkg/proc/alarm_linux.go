package proc

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is the time since the machine started, sleep included
// (CLOCK_BOOTTIME): the same in all its processes, and nobody can set it.
func BootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error()) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// alarm rings at a BootTime, at once when the machine wakes after it. A timer of
// Go's would count its sleep as no time.
type alarm struct {
	fd   *os.File
	ring chan struct{}
}

func newAlarm() *alarm {
	a := &alarm{ring: make(chan struct{}, 1)}
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil { // no descriptors left: rather look too often than too late
		go pollAlarm(a.ring)
		return a
	}
	a.fd = os.NewFile(uintptr(fd), "timerfd")
	go func() {
		for buf := make([]byte, 8); ; {
			if _, err := a.fd.Read(buf); err != nil {
				return
			}
			a.ring <- struct{}{}
		}
	}()
	return a
}

// set makes the alarm ring at a time instead of any other; 0 is never.
func (a *alarm) set(at time.Duration) {
	if a.fd == nil {
		return
	}
	raw, err := a.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
		_ = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
}
