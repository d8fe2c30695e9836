package proc

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// post is a guard, as its supervisor has it.
type post struct {
	token  string // in the environment of everything below the guard
	guard  *exec.Cmd
	status *os.File // what the guard says
	lines  *bufio.Reader

	mu      sync.Mutex // guards control
	control *os.File   // its closing, by us or by our death, ends the tree

	closing sync.Once
}

// startGuard starts a guard, which starts the child.
func startGuard(spec Spec, path string) (*post, error) {
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
	p := &post{token: rand.Text(), status: statusR, lines: bufio.NewReader(statusR), control: controlW}
	self, err := ownExecutable()
	if err == nil {
		p.guard = guardCommand(self, spec, path, p.token)
		p.guard.ExtraFiles = []*os.File{controlR, statusW} // guardControl, guardStatus
		err = p.guard.Start()
	}
	if err != nil {
		controlW.Close()
		statusR.Close()
		return nil, fmt.Errorf("start a guard: %w", err)
	}
	return p, nil
}

func guardCommand(self string, spec Spec, path, token string) *exec.Cmd {
	mode := modeKill
	switch {
	case spec.Keep:
		mode = modeKeep
	case spec.Leave:
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

// order tells the guard something; os.ErrProcessDone when it is gone.
func (p *post) order(text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.control.WriteString(text)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("tell the guard %d: %w", p.guard.Process.Pid, err)
	}
	return nil
}

// close ends the guard and waits for that.
func (p *post) close() {
	p.closing.Do(func() {
		p.mu.Lock()
		p.control.Close()
		p.mu.Unlock()
		p.guard.Wait() // its own code says nothing beyond what it has said
		p.status.Close()
	})
}
