package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Spec says what a Child runs.
type Spec struct {
	Argv []string // the program and its arguments; no shell, see Resolve
	Dir  string   // "" is the current directory
	Env  []string // nil is our own environment

	Stdin, Stdout, Stderr *os.File // nil is /dev/null

	// Leave lets what the child started run on after the child has ended by
	// itself ("haproxy -D"). Without it the guard kills what is left.
	Leave bool

	// Credential is who runs it, guard and child; nil is who we are.
	Credential *syscall.Credential

	// Deadline holds from the very start of the child.
	Deadline Deadline

	// Keep has the guard outlive the child, for Again. Release is owed then.
	Keep bool
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
	*post
	pid  int
	keep bool
	done chan struct{} // closed when the child has ended
	code int           // set before
	err  error         // set before
}

// startTimeout is how long a guard may take to say that the child runs.
const startTimeout = 10 * time.Second

// Start starts the guard and, below it, the child. It returns when the child
// runs, or with the operating system's error when it could not be started.
func Start(spec Spec) (*Child, error) {
	if len(spec.Argv) == 0 {
		return nil, fmt.Errorf("no command given")
	}
	if os.Args[0] == guardName {
		return nil, errNoGuardMain // we should have been a guard: do not go round in circles
	}
	path, err := find(spec.Argv[0])
	if err != nil {
		return nil, err
	}
	p, err := startGuard(spec, path)
	if err != nil {
		return nil, err
	}
	c := &Child{post: p, keep: spec.Keep, done: make(chan struct{})}
	if err := c.awaitStart(); err != nil {
		c.guard.Process.Kill() // it has nothing below it, or kills it at the end of its pipe
		c.close()
		return nil, err
	}
	go c.watch()
	return c, nil
}

// find looks a program up by our PATH, whatever the child's environment says.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	return exec.LookPath(name)
}

// Again starts another program below the guard of a child that has ended, which takes
// no more than a fork. The first Spec has said Keep; of this one only Argv and Env
// count. After an error another Again may be tried.
func (c *Child) Again(spec Spec) (*Child, error) {
	select {
	case <-c.done:
	default:
		return nil, fmt.Errorf("process %d still runs", c.pid)
	}
	if len(spec.Argv) == 0 {
		return nil, fmt.Errorf("no command given")
	}
	path, err := find(spec.Argv[0])
	if err != nil {
		return nil, err
	}
	if spec.Env == nil {
		spec.Env = os.Environ()
	}
	if err := c.order(again{path, spec.Argv, append(slices.Clip(spec.Env), guardEnv+"="+c.token)}.String()); err != nil {
		return nil, fmt.Errorf("start a child: %w", err)
	}
	next := &Child{post: c.post, keep: true, done: make(chan struct{})}
	if err := next.awaitStart(); err != nil {
		return nil, err
	}
	go next.watch()
	return next, nil
}

// Release ends a guard that was kept, once its child has ended.
func (c *Child) Release() {
	<-c.done
	c.close()
}

var errNoGuardMain = errors.New("start a child: its guard did not answer: main must call proc.GuardMain first")

// awaitStart reads the guard's first word of this child.
func (c *Child) awaitStart() error {
	if err := c.status.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("start a child: %w", err)
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return errNoGuardMain
	}
	word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if word != sayStarted {
		return errors.New(rest)
	}
	if c.pid, err = strconv.Atoi(rest); err != nil {
		return errNoGuardMain
	}
	return c.status.SetReadDeadline(time.Time{})
}

// watch learns how the child ended.
func (c *Child) watch() {
	defer close(c.done)
	said := false
	for !said || !c.keep {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			break
		}
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if code, err := strconv.Atoi(rest); err == nil && word == sayExit {
			c.code, said = code, true
		}
	}
	if said && c.keep {
		return
	}
	c.close()
	if !said {
		c.code = exitCode(syscall.WaitStatus(syscall.SIGKILL))
		c.err = fmt.Errorf("the guard of process %d died: killed what it ran", c.pid)
		sweep(c.pid, c.guard.Process.Pid, c.token)
	}
}

// Pid is the child's process id, which is also its process group.
func (c *Child) Pid() int { return c.pid }

// Signal sends sig to the child's process group; os.ErrProcessDone once it
// ended. SIGURG and SIGCHLD are never passed on: they are between a process and
// its own runtime.
func (c *Child) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGURG || sig == syscall.SIGCHLD {
		return nil
	}
	return c.tell(fmt.Sprintf("%s %d\n", doSignal, int(sig)))
}

// Deadline replaces the one that holds; the zero Deadline lifts it. The guard
// keeps it by itself, also when this process is stopped.
func (c *Child) Deadline(d Deadline) error { return c.tell(doDeadline + " " + d.String() + "\n") }

// tell gives the guard an order about this child.
func (c *Child) tell(order string) error {
	select {
	case <-c.done:
		return os.ErrProcessDone
	default:
	}
	return c.order(order)
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

// Stop sends sig to the child's process group and, after killAfter, SIGKILL: to
// the group if the Spec said Leave, else to the whole tree. It returns when the
// child has ended, with its code.
func (c *Child) Stop(sig syscall.Signal, killAfter time.Duration) (code int, err error) {
	if err := c.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	timer := time.NewTimer(killAfter)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.code, c.err
	case <-timer.C:
	}
	if err := c.tell(doKill + "\n"); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	<-c.done
	return c.code, c.err
}
