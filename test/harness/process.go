package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs; it dies with the test process at the latest.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

// spawn starts cmd with its output at the end of a file.
func spawn(t testing.TB, log string, cmd *exec.Cmd) *Process {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = file
	}
	cmd.Stderr = file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return begin(t, cmd)
}

// begin starts cmd as it is.
func begin(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, name: filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // its state tells
	}()
	return p
}

// Pid is its process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends it one signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("%v to %s: %v", sig, p.name, err)
	}
}

// Pause stops it until Resume. When it returns no thread of it runs any more: the signal
// alone says nothing about when.
func (p *Process) Pause() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	within(context.Background(), p.t, MaxWait, p.name+" stands still", func(context.Context) error { return running(p.Pid()) })
}

// running tells of a thread that is not stopped, in a process that has not ended.
func running(pid int) error {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		_, after, _ := strings.Cut(string(stat), ") ")
		if after != "" && !strings.ContainsRune("TtZX", rune(after[0])) {
			return fmt.Errorf("%s: state %c", name, after[0])
		}
	}
	return nil
}

// Resume ends a Pause.
func (p *Process) Resume() { p.t.Helper(); p.Signal(syscall.SIGCONT) }

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit waits until it has ended and gives its exit code, -1 for a signal.
func (p *Process) Exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(MaxWait):
		p.t.Fatalf("%s does not end", p.name)
		return -1
	}
}

// Ended says how it ended; it must have.
func (p *Process) Ended() *os.ProcessState { <-p.done; return p.cmd.ProcessState }

// Kill is kill -9, and waits for the end.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("kill %s: %v", p.name, err)
	}
	<-p.done
}

// killAndAwaitChildren is Kill that also waits for the guards of its children, which end
// after all processes below them: none writes any more.
func (p *Process) killAndAwaitChildren() {
	_ = p.cmd.Process.Signal(syscall.SIGSTOP) // it starts no child after children
	below := children(p.Pid())
	p.Kill()
	for over := time.After(MaxWait); slices.ContainsFunc(below, Alive); {
		select {
		case <-over:
			p.t.Errorf("what %s ran does not end: processes %v", p.name, below)
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Alive reports whether a process runs: a dead one that nobody has reaped does not.
func Alive(pid int) bool {
	state := stateOf(pid)
	return state != "" && !strings.HasPrefix(state, "Z")
}

// stopped reports whether it was sent a SIGSTOP, and no SIGCONT since.
func (p *Process) stopped() bool { return strings.HasPrefix(stateOf(p.Pid()), "T") }

// stateOf begins with the letter for a process's state; "" for one that there is not.
func stateOf(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return state
}

// Running are the processes that work in a folder or below it.
func Running(dir string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
