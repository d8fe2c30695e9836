package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/proc/guard"
)

// Deadline is when a Child has to end.
type Deadline = guard.Deadline

// BootTime is the clock of a Deadline: the time since the machine started, sleep
// included, which is the same for all its processes.
func BootTime() time.Duration { return guard.BootTime() }

// exitCode is a process's end as a shell would report it.
func exitCode(ws syscall.WaitStatus) int { return guard.ExitCode(ws) }

// Mark is the variable by which what a guard runs is found again; see Spec.Unmarked.
const Mark = guard.Env

// Spec says what a Child runs.
type Spec struct {
	Argv []string // the program and its arguments; no shell, see Resolve
	Dir  string   // "" is the current directory
	Env  []string // nil is our own environment

	Stdin, Stdout, Stderr *os.File // nil is /dev/null

	// Leave lets what the child started run on after the child has ended by
	// itself ("haproxy -D"). Without it the guard kills what is left.
	Leave bool

	// Unmarked keeps the guard's mark out of the child's environment. Should somebody kill
	// the guard alone, what has left its session is not found then.
	Unmarked bool

	// OnStop is called when the child was stopped at a terminal (see NewTerminalGuard) and
	// we are about to be; nil: nobody cares.
	OnStop func()

	// Credential is who runs it, guard and child; nil is who we are. A Guard has
	// its own.
	Credential *syscall.Credential

	// Deadline holds from the very start of the child.
	Deadline Deadline
}

// Child is a program below its guard. Its methods may be called from any
// goroutine, at any time.
//
//	        Start           "started"            "exit", or the guard died
//	(none) ------> starting ---------> running --------------------------> ended
//	                  |                   |                                  ^
//	                  | "error"           | Stop: signal     the child ends, |
//	                  v                   v                  or SIGKILL      |
//	               (error)             stopping -----------------------------+
//
// The words in quotes are what the guard says on its pipe.
type Child struct {
	guard  *Guard
	after  func(*Guard) // what becomes of the guard, which lives; nil: nothing
	pid    int
	onStop func()
	done   chan struct{} // closed when the child has ended
	code   int           // set before
	err    error         // set before
}

// Start starts a guard and, below it, the child. It returns when the child
// runs, or with the operating system's error when it could not be started.
func Start(spec Spec) (*Child, error) {
	if _, err := find(spec.Argv); err != nil {
		return nil, err
	}
	g, err := NewGuard(spec.Credential)
	if err != nil {
		return nil, err
	}
	c, err := g.start(spec, (*Guard).Close)
	if err != nil {
		g.Close()
		return nil, err
	}
	return c, nil
}

// find looks a program up by our PATH, whatever the child's environment says.
func find(argv []string) (path string, err error) {
	if len(argv) == 0 {
		return "", fmt.Errorf("no command given")
	}
	if strings.Contains(argv[0], "/") {
		return argv[0], nil
	}
	return exec.LookPath(argv[0])
}

// watch learns how the child ended.
func (c *Child) watch() {
	var word, rest string
	var err error
	leave := func() {}
	if c.guard.tty != nil {
		leave = c.attend()
	}
	for {
		if word, rest, err = c.guard.hear(); err != nil || word != guard.SayStopped {
			break
		}
		c.stopped()
	}
	leave()
	if c.guard.tty != nil {
		c.guard.tty.takeBack(c.pid)
	}
	code, noCode := strconv.Atoi(rest)
	said := err == nil && noCode == nil && word == guard.SayExit
	c.code = code
	c.guard.free()
	switch {
	case !said:
		c.guard.Close()
		c.code = exitCode(syscall.WaitStatus(syscall.SIGKILL))
		c.err = fmt.Errorf("the guard of process %d died: killed what it ran", c.pid)
		sweep(c.pid, c.guard.pid(), c.guard.token)
	case c.after != nil:
		c.after(c.guard)
	}
	close(c.done)
}

// Pid is the child's process id, which is also its process group.
func (c *Child) Pid() int { return c.pid }

// Signal sends sig to the child's process group; os.ErrProcessDone once it
// ended. SIGURG and SIGCHLD are never passed on: they are between a process and
// its own runtime.
func (c *Child) Signal(sig syscall.Signal) error { return c.send(guard.DoSignal, sig) }

// Pass passes on a signal that we have got, or ends the child because of one, so that
// it gets exactly one: who stops a service may have sent it to the child too. That
// takes a moment (guard.echoTime).
func (c *Child) Pass(sig syscall.Signal) error { return c.send(guard.DoPass, sig) }

func (c *Child) send(how string, sig syscall.Signal) error {
	if sig == syscall.SIGURG || sig == syscall.SIGCHLD {
		return nil
	}
	return c.tell(how, strconv.Itoa(int(sig)))
}

// Deadline replaces the one that holds; the zero Deadline lifts it. The guard
// keeps it by itself, also when this process is stopped.
func (c *Child) Deadline(d Deadline) error { return c.tell(guard.DoDeadline, d.String()) }

// tell gives the guard an order about this child, which the guard may have seen end,
// and followed by another.
func (c *Child) tell(word, rest string) error {
	select {
	case <-c.done:
		return os.ErrProcessDone
	default:
	}
	return c.guard.order(fmt.Sprintf("%s %d %s\n", word, c.pid, rest))
}

// Wait blocks until the child has ended, or ctx. The code is the child's own,
// or 128 + signal. An error says that ctx ended first, or that the guard was
// killed, and with it the child.
func (c *Child) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-c.done:
		return c.code, c.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Await is Wait for who stops the child at the end of ctx: with SIGTERM, and SIGKILL after
// killAfter. stopped says that it did.
func (c *Child) Await(ctx context.Context, killAfter time.Duration) (code int, stopped bool, err error) {
	select {
	case <-c.done:
		return c.code, false, c.err
	case <-ctx.Done():
		code, err = c.Stop(syscall.SIGTERM, killAfter)
		return code, true, err
	}
}

// Stop sends sig to the child's process group, as Pass does, and, after killAfter, SIGKILL: to
// the group if the Spec said Leave, else to the whole tree. It returns when the
// child has ended, with its code.
func (c *Child) Stop(sig syscall.Signal, killAfter time.Duration) (code int, err error) {
	if err := c.Pass(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	timer := time.NewTimer(killAfter)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.code, c.err
	case <-timer.C:
	}
	if err := c.tell(guard.DoKill, ""); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	<-c.done
	return c.code, c.err
}
