package proc

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/proc/guard"
)

// Guard is a guard that stands ready: to start a child below it takes no more than
// a fork. It has at most one child at a time.
type Guard struct {
	token  string // in the environment of everything below the guard
	cmd    *exec.Cmd
	status *os.File // what the guard says
	lines  *bufio.Reader
	tty    *terminal // in whose session it is; nil: in one of its own

	mu      sync.Mutex // guards the following
	control *os.File   // its closing, by us or by our death, ends the tree
	busy    bool       // there is a child

	closing sync.Once
}

// startTimeout is how long a guard may take to say that the child runs.
const startTimeout = 10 * time.Second

// errBusy says that a Guard's child has not ended.
var errBusy = errors.New("start a child: the guard's last one still runs")

// NewGuard starts a guard that runs its children as somebody; nil is who we are.
// It does not wait until the guard is ready. Close is owed.
func NewGuard(who *syscall.Credential) (*Guard, error) { return guardAt(who, nil) }

// NewTerminalGuard starts a guard for children that people talk to: where this process
// was started at a terminal, by its name and as a job of its own, a child is the
// terminal's foreground, so that Ctrl-C is for the child alone, and a shell has job
// control. A child that is stopped (Ctrl-Z) stops us too, and goes on when we do.
// Elsewhere it is as NewGuard's.
func NewTerminalGuard() (*Guard, error) { return guardAt(nil, atTerminal()) }

func guardAt(who *syscall.Credential, tty *terminal) (*Guard, error) {
	g, err := newGuard(who, tty)
	if err != nil && tty != nil {
		tty.close()
	}
	if err != nil {
		return nil, fmt.Errorf("start a guard: %w", err)
	}
	return g, nil
}

func newGuard(who *syscall.Credential, tty *terminal) (*Guard, error) {
	self, err := ownExecutable()
	if err != nil {
		return nil, err
	}
	control, theirControl, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirControl.Close()
	status, theirStatus, err := os.Pipe()
	if err != nil {
		control.Close()
		return nil, err
	}
	defer theirStatus.Close()
	g := &Guard{token: rand.Text(), status: status, lines: bufio.NewReader(status), control: control, tty: tty}
	g.cmd = &exec.Cmd{
		Path: self,
		Args: []string{guard.Name},
		Env:  append(os.Environ(), guard.Env+"="+g.token),
		// Out of reach of the terminal's signals, which are for the tool, or its child.
		SysProcAttr: &syscall.SysProcAttr{Setsid: tty == nil, Setpgid: tty != nil, Credential: who},
		ExtraFiles:  []*os.File{theirControl, theirStatus}, // guard.ControlFD, guard.StatusFD
	}
	if err := g.cmd.Start(); err != nil {
		control.Close()
		status.Close()
		return nil, err
	}
	return g, nil
}

// socketPair makes a stream that takes files too, and tells of the other end's death.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// Start starts a child. It returns when the child runs, or with the operating
// system's error when it could not be started; then another may be. Not before the
// last child has ended.
func (g *Guard) Start(spec Spec) (*Child, error) { return g.start(spec, nil) }

func (g *Guard) start(spec Spec, after func(*Guard)) (*Child, error) {
	path, err := find(spec.Argv)
	if err != nil {
		return nil, err
	}
	if spec.Dir != "" {
		if _, err := os.Stat(spec.Dir); err != nil {
			return nil, &os.PathError{Op: "chdir", Path: spec.Dir, Err: errors.Unwrap(err)}
		}
	}
	if !g.take() {
		return nil, errBusy
	}
	c := &Child{guard: g, after: after, onStop: spec.OnStop, done: make(chan struct{})}
	if c.pid, err = g.launch(path, spec); err != nil {
		g.free()
		return nil, err
	}
	go c.watch()
	return c, nil
}

// take makes the guard busy; false: it is.
func (g *Guard) take() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.busy
	g.busy = true
	return !was
}

func (g *Guard) free() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
}

// launch has the guard start a program, and hears of it.
func (g *Guard) launch(path string, spec Spec) (pid int, err error) {
	env := spec.Env
	if env == nil {
		env = os.Environ()
	}
	order := guard.Order{Path: path, Dir: spec.Dir, Argv: spec.Argv, Env: env, Deadline: spec.Deadline, Leave: spec.Leave}
	if !spec.Unmarked {
		order.Env = append(slices.Clip(env), guard.Env+"="+g.token)
	}
	g.place(&order)
	if err := g.status.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return 0, fmt.Errorf("start a child: %w", err)
	}
	if err := g.send(order.String(), spec.Stdin, spec.Stdout, spec.Stderr); err != nil {
		return 0, fmt.Errorf("start a child: %w", err)
	}
	word, rest, err := g.hear()
	if err != nil { // then nobody knows what it does
		_ = g.cmd.Process.Kill()
		g.Close()
		return 0, fmt.Errorf("start a child: its guard did not answer (%w): %w", err, os.ErrProcessDone)
	}
	if word != guard.SayStarted {
		return 0, errors.New(rest)
	}
	if pid, err = strconv.Atoi(rest); err != nil {
		return 0, fmt.Errorf("start a child: its guard said %q", rest)
	}
	return pid, g.status.SetReadDeadline(time.Time{})
}

// hear reads what the guard says next.
func (g *Guard) hear() (word, rest string, err error) {
	line, err := g.lines.ReadString('\n')
	word, rest, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	return word, rest, err
}

// send sends text with three files; nil is /dev/null.
func (g *Guard) send(text string, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		if f == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer null.Close()
			f = null
		}
		fds[i] = int(f.Fd()) // which makes it a blocking one: programs expect that
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var sent int
	raw, err := g.control.SyscallConn()
	if err != nil {
		return gone(err)
	}
	failed := raw.Control(func(fd uintptr) {
		for {
			sent, err = syscall.SendmsgN(int(fd), []byte(text), syscall.UnixRights(fds...), nil, 0)
			if err != syscall.EINTR {
				return
			}
		}
	})
	runtime.KeepAlive(files)
	if err = errors.Join(failed, err); err == nil && sent < len(text) {
		_, err = g.control.WriteString(text[sent:])
	}
	return gone(err)
}

// order tells the guard something; os.ErrProcessDone when it is gone.
func (g *Guard) order(text string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.control.WriteString(text); err != nil {
		if err = gone(err); errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return fmt.Errorf("tell the guard %d: %w", g.pid(), err)
	}
	return nil
}

// gone tells a guard that is dead from other faults.
func gone(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone
	}
	return err
}

func (g *Guard) pid() int { return g.cmd.Process.Pid }

// Close ends the guard, and a child that still runs by SIGKILL, with its whole tree.
// It waits for that.
func (g *Guard) Close() {
	g.closing.Do(func() {
		g.mu.Lock()
		g.control.Close()
		g.mu.Unlock()
		_ = g.cmd.Wait() // its own code says nothing beyond what it has said
		g.status.Close()
		if g.tty != nil {
			g.tty.close()
		}
	})
}
