package proc

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
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
	pid   int
	token string // in the environment of everything below the guard
	guard *exec.Cmd

	mu      sync.Mutex // guards control
	control *os.File   // its closing, by us or by our death, ends the tree

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
	path := spec.Argv[0]
	if !strings.Contains(path, "/") {
		found, err := exec.LookPath(path) // by our PATH, whatever the child's environment says
		if err != nil {
			return nil, err
		}
		path = found
	}
	c := &Child{token: rand.Text(), done: make(chan struct{})}
	status, err := c.startGuard(spec, path)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReader(status)
	if err := c.awaitStart(status, lines); err != nil {
		c.control.Close()
		status.Close()
		c.guard.Process.Kill() // it has nothing below it, or kills it at the end of its pipe
		c.guard.Wait()
		return nil, err
	}
	go c.watch(status, lines)
	return c, nil
}

var errNoGuardMain = errors.New("start a child: its guard did not answer: main must call proc.GuardMain first")

// startGuard starts the guard. The pipe it returns is what the guard says.
func (c *Child) startGuard(spec Spec, path string) (status *os.File, err error) {
	controlR, controlW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a guard: %w", err)
	}
	statusR, statusW, err := os.Pipe()
	if err != nil {
		controlR.Close()
		controlW.Close()
		return nil, fmt.Errorf("start a guard: %w", err)
	}
	defer controlR.Close()
	defer statusW.Close()

	self, err := ownExecutable()
	if err == nil {
		c.guard = guardCommand(self, spec, path, c.token)
		c.guard.ExtraFiles = []*os.File{controlR, statusW} // guardControl, guardStatus
		err = c.guard.Start()
	}
	if err != nil {
		controlW.Close()
		statusR.Close()
		return nil, fmt.Errorf("start a guard: %w", err)
	}
	c.control = controlW
	return statusR, nil
}

func guardCommand(self string, spec Spec, path, token string) *exec.Cmd {
	mode := modeKill
	if spec.Leave {
		mode = modeLeave
	}
	cmd := &exec.Cmd{
		Path: self,
		Args: append([]string{guardName, mode, spec.Deadline.String(), path}, spec.Argv...),
		Dir:  spec.Dir,
		Env:  spec.Env,
		// Out of reach of the terminal's signals, which are for the tool.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Credential: spec.Credential},
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], guardEnv+"="+token)
	// A nil *os.File in an interface is not a nil interface.
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	if spec.Stdout != nil {
		cmd.Stdout = spec.Stdout
	}
	if spec.Stderr != nil {
		cmd.Stderr = spec.Stderr
	}
	return cmd
}

// awaitStart reads the guard's first word.
func (c *Child) awaitStart(status *os.File, lines *bufio.Reader) error {
	if err := status.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("start a child: %w", err)
	}
	line, err := lines.ReadString('\n')
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
	return status.SetReadDeadline(time.Time{})
}

// watch learns how the child ended.
func (c *Child) watch(status *os.File, lines *bufio.Reader) {
	said := false
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if code, err := strconv.Atoi(rest); err == nil && word == sayExit {
			c.code, said = code, true
		}
	}
	c.guard.Wait() // its own code says nothing beyond that
	if !said {
		c.code = exitCode(syscall.WaitStatus(syscall.SIGKILL))
		c.err = fmt.Errorf("the guard of process %d died: killed what it ran", c.pid)
		sweep(c.pid, c.guard.Process.Pid, c.token)
	}
	status.Close()
	c.mu.Lock()
	c.control.Close()
	c.mu.Unlock()
	close(c.done)
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

// tell gives the guard an order.
func (c *Child) tell(order string) error {
	select {
	case <-c.done:
		return os.ErrProcessDone
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.control.WriteString(order)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("tell the guard of process %d: %w", c.pid, err)
	}
	return nil
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
