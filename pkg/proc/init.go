package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitMain is called first thing in main. It returns at once unless this
// process is process 1, the init of a container. Then everything that is orphaned
// becomes its child, and somebody has to take note of their ends: InitMain starts
// this same program again, as an ordinary process, reaps for it, passes it all
// signals, and ends with its code. It does not return then.
func InitMain() {
	if os.Getpid() != 1 {
		return
	}
	code, err := initRun()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: error: run as process 1: %v\n", os.Args[0], err)
		os.Exit(1)
	}
	os.Exit(code)
}

// initRun starts the program and reaps until it has ended. Nothing else in this
// process waits for children, so that no one's status is taken away.
func initRun() (code int, err error) {
	self, err := ownExecutable()
	if err != nil {
		return 0, err
	}
	got := make(chan os.Signal, 64)
	signal.Notify(got) // before the start: no end may be missed
	cmd := &exec.Cmd{Path: self, Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	// A group of its own: what a terminal sends is sent once, by the terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if isTerminal(0) {
		cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, 0
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	for sig := range got {
		switch sig {
		case syscall.SIGCHLD:
			if code, ended := reapAll(pid); ended {
				return code, nil
			}
		case syscall.SIGURG, syscall.SIGPIPE, syscall.SIGTTOU, syscall.SIGTTIN: // our runtime's and our own
		default:
			_ = syscall.Kill(pid, sig.(syscall.Signal)) // ESRCH: it has just ended
		}
	}
	return 0, errors.New("no more signals")
}

// reapAll takes note of all ends there are; it says when one was that of pid.
func reapAll(pid int) (code int, ended bool) {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || got == 0:
			return code, ended
		case got == pid:
			code, ended = exitCode(ws), true
		}
	}
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil
}
