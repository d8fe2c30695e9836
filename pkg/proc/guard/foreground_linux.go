package guard

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// A child at a terminal has to be its foreground before it begins: a shell looks at
// once, and stops itself if it is not. Between fork and exec nobody but the kernel
// runs, so such a child is first this binary again, under this name, which takes the
// terminal and then becomes the program.
const foregroundName = "muster-foreground"

// reportFD is where it says why it could not; it closes by itself when it could.
const reportFD = 3

func init() {
	if len(os.Args) < 3 || os.Args[0] != foregroundName {
		return
	}
	runtime.LockOSThread()
	syscall.CloseOnExec(reportFD)
	takeTerminal()
	err := syscall.Exec(os.Args[1], os.Args[2:], os.Environ())
	_, _ = io.WriteString(os.NewFile(reportFD, "report"), err.Error())
	os.Exit(127)
}

// takeTerminal makes our process group the foreground of the controlling terminal. Who
// does that from the background is stopped (SIGTTOU) unless it blocks that meanwhile.
// Where it cannot be done the program runs in the background.
func takeTerminal() {
	tty, err := syscall.Open("/dev/tty", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	block, before := uint64(1)<<(syscall.SIGTTOU-1), uint64(0)
	const sigBlock, sigSetMask = 0, 2
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigBlock, uintptr(unsafe.Pointer(&block)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	group := int32(syscall.Getpgrp())
	_, _, _ = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(tty), syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&group)))
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
}

// forkForeground starts a child as the terminal's foreground.
func forkForeground(o Order) (pid int, err error) {
	var report [2]int
	if err := syscall.Pipe2(report[:], syscall.O_CLOEXEC); err != nil {
		return 0, err
	}
	from := os.NewFile(uintptr(report[0]), "report")
	defer func() { _ = from.Close() }()
	pid, err = syscall.ForkExec("/proc/self/exe", append([]string{foregroundName, o.Path}, o.Argv...), &syscall.ProcAttr{
		Dir: o.Dir, Env: o.Env, Files: append(o.files[:], uintptr(report[1])), Sys: childAttr(),
	})
	_ = syscall.Close(report[1])
	if err != nil {
		return 0, err
	}
	if why, _ := io.ReadAll(from); len(why) > 0 {
		var ws syscall.WaitStatus
		_, _ = syscall.Wait4(pid, &ws, 0, nil) // it is about to end
		return 0, failure(why)
	}
	return pid, nil
}

// failure is why a program could not be started, as another process has told it.
type failure string

func (f failure) Error() string { return string(f) }
