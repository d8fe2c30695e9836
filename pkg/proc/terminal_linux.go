package proc

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/muster-dev/muster/pkg/proc/guard"
)

// terminal is the one that we were started at, as a job of its own: standard input and
// output are it, and we lead our process group. In the middle of a pipeline, or in a
// script, the terminal is for all of the job, and stays with it.
type terminal struct {
	fd  int
	own int // our process group
}

// atTerminal finds it; nil: there is none.
func atTerminal() *terminal {
	if own := syscall.Getpgrp(); own != os.Getpid() || !isTerminal(0) || !isTerminal(1) {
		return nil
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return &terminal{fd: fd, own: os.Getpid()}
}

func (t *terminal) close() { _ = unix.Close(t.fd) }

// foreground is the process group that is; 0: nobody knows.
func (t *terminal) foreground() int {
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// ours says whether we are the foreground.
func (t *terminal) ours() bool { return t.foreground() == t.own }

// give makes a process group the foreground. Who does that from the background is
// stopped unless its thread blocks the signal.
func (t *terminal) give(group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (syscall.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group) // of a group that has ended it fails
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}

// takeBack takes the terminal from a child: not from the shell, which may have it.
func (t *terminal) takeBack(child int) {
	group := t.foreground()
	if group == child || group > 0 && syscall.Kill(-group, 0) == syscall.ESRCH {
		t.give(t.own)
	}
}

// attend has the child go on whenever we do (SIGCONT), in the foreground if we are put
// there, until stop is called.
func (c *Child) attend() (stop func()) {
	t := c.guard.tty
	got, quit, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(got, syscall.SIGCONT)
	go func() {
		defer close(done)
		for {
			select {
			case <-got:
				if t.ours() {
					t.give(c.pid)
				}
				_ = c.Signal(syscall.SIGCONT) // it may have ended
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(got)
		close(quit)
		<-done
	}
}

// stopped follows a child that was stopped, as by Ctrl-Z: we stop too, so that the shell
// has its turn. Where no shell would have us go on, the child does at once.
func (c *Child) stopped() {
	if !isStopped(c.pid) {
		return // it goes on already
	}
	if session, err := unix.Getsid(os.Getppid()); err != nil || session != mustSid() {
		_ = c.Signal(syscall.SIGCONT)
		return
	}
	if c.onStop != nil {
		c.onStop()
	}
	c.guard.tty.takeBack(c.pid)
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

func mustSid() int {
	session, _ := unix.Getsid(0) // there is always one
	return session
}

func isStopped(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	return err == nil && strings.HasPrefix(rest, "T")
}

// place says how a child of the guard stands to the terminal.
func (g *Guard) place(o *guard.Order) {
	if g.tty != nil {
		o.Terminal, o.Foreground = true, g.tty.ours()
	}
}
