package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrTimeout says that a Command ran longer than its Timeout and was killed.
var ErrTimeout = errors.New("timed out")

const (
	// defaultMaxOutput is how much output a Command keeps unless told otherwise.
	defaultMaxOutput = 64 << 10
	// drainTime is how long a command that has ended is still read from while
	// somebody it left behind keeps the pipe open.
	drainTime = 500 * time.Millisecond
)

// Command is one run of a program to its end.
type Command struct {
	Argv  []string // the program and its arguments; no shell, see Resolve
	Dir   string   // "" is the current directory
	Env   []string // nil is our own environment
	Stdin []byte   // nil is /dev/null

	// Stdout and Stderr, where set, are given to the program itself and are not
	// captured. A daemon that a command leaves behind may go on writing there,
	// while writing to a captured stream ends it (SIGPIPE).
	Stdout, Stderr *os.File

	Timeout   time.Duration // 0 is none
	MaxOutput int           // bytes of captured output to keep; 0 is 64 KiB
}

// Result is how a Command ended.
type Result struct {
	Code   int    // exit code, or 128 + signal
	Output []byte // the last MaxOutput bytes of stdout and stderr together
	Total  int64  // how many bytes were written in all
}

// Run starts the command and waits for its end. The error is nil whenever the
// program ended by itself, whatever its code. It wraps ErrTimeout, or the
// context's cause, when the process group was killed, and is the operating
// system's own when the program could not be started. Output is there in each
// case.
func (c Command) Run(ctx context.Context) (Result, error) {
	if len(c.Argv) == 0 {
		return Result{}, fmt.Errorf("no command given")
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, ErrTimeout)
		defer cancel()
	}
	var killed atomic.Bool
	out := &tail{max: c.MaxOutput}
	cmd := c.build(ctx, out, &killed)
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	err := cmd.Wait()
	res := Result{Output: out.bytes(), Total: out.total}
	ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	res.Code = exitCode(ws)
	if killed.Load() && ws.Signaled() {
		return res, fmt.Errorf("run %s: %w", c.Argv[0], context.Cause(ctx))
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.As(err, &exit), errors.Is(err, exec.ErrWaitDelay), ctx.Err() != nil:
		return res, nil
	}
	return res, fmt.Errorf("run %s: %w", c.Argv[0], err)
}

func (c Command) build(ctx context.Context, out *tail, killed *atomic.Bool) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = drainTime
	cmd.Cancel = func() error {
		killed.Store(true)
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		cmd.Stderr = c.Stderr
	}
	return cmd
}

// tail keeps the end of what is written to it and counts the rest. os/exec
// writes from one goroutine, which has ended when Wait returns.
type tail struct {
	max   int
	buf   []byte
	total int64
}

func (t *tail) Write(p []byte) (int, error) {
	if t.max <= 0 {
		t.max = defaultMaxOutput
	}
	n := len(p)
	t.total += int64(n)
	if n > t.max {
		p = p[n-t.max:]
	}
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.max {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.max:]...)
	}
	return n, nil
}

func (t *tail) bytes() []byte {
	if t.max > 0 && len(t.buf) > t.max {
		return t.buf[len(t.buf)-t.max:]
	}
	return t.buf
}
