package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Folder is a working directory in which tools run.
type Folder struct {
	T    *testing.T
	Path string
	Env  []string // of the tools; the binaries under test are first on its PATH
}

// Folder is a new one, whose tools ask this agent. What still runs in it when the
// test is over is killed, trees and all.
func (a *Agent) Folder(t *testing.T) *Folder {
	t.Helper()
	f := &Folder{T: t, Path: t.TempDir()}
	f.Env = append(os.Environ(), "MUSTER_HTTP_ADDR="+a.Addr(), "PATH="+Bin(t)+":"+os.Getenv("PATH"),
		"XDG_STATE_HOME="+f.File(".state"))
	t.Cleanup(f.KillLeft)
	return f
}

// File is the path of a file in it.
func (f *Folder) File(name string) string { return filepath.Join(f.Path, name) }

// Write writes a file that can be executed too.
func (f *Folder) Write(name, text string) {
	f.T.Helper()
	if err := os.WriteFile(f.File(name), []byte(text), 0o755); err != nil {
		f.T.Fatal(err)
	}
}

// Read is a file's text, "" when there is none.
func (f *Folder) Read(name string) string {
	data, _ := os.ReadFile(f.File(name))
	return string(data)
}

// AwaitText waits until a file holds a text and nothing else.
func (f *Folder) AwaitText(name, want string) {
	f.T.Helper()
	Until(f.T, name+" reads "+strconv.Quote(want), func(context.Context) error {
		if got := f.Read(name); got != want {
			return fmt.Errorf("it reads %q", got)
		}
		return nil
	})
}

// AwaitPart waits until a file holds every part.
func (f *Folder) AwaitPart(name string, parts ...string) {
	f.T.Helper()
	Until(f.T, name, func(context.Context) error {
		text := f.Read(name)
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return fmt.Errorf("no %q in %q", part, text)
			}
		}
		return nil
	})
}

// Pid is the number in a file, once it is there.
func (f *Folder) Pid(name string) int {
	f.T.Helper()
	f.AwaitPart(name, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(f.Read(name)))
	if err != nil {
		f.T.Fatal(err)
	}
	return n
}

// KillLeft kills what runs in the folder or below it, and what that starts
// meanwhile.
func (f *Folder) KillLeft() {
	for pids := Running(f.Path); len(pids) > 0; pids = Running(f.Path) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Run starts a program, by its name in Bin or its path; what it prints goes to the
// file log.
func (f *Folder) Run(name string, args ...string) *Process {
	f.T.Helper()
	p := spawn(f.T, f.File("log"), f.command(f.T.Context(), name, args))
	f.T.Cleanup(func() {
		p.Kill()
		if f.T.Failed() {
			f.T.Logf("-- end of the log of %s\n%s", name, Tail(f.File("log"), 30))
		}
	})
	return p
}

// Once runs a program to its end; its code is -1 for a signal.
func (f *Folder) Once(name string, args ...string) (code int, stdout, stderr string) {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), MaxWait)
	defer cancel()
	cmd := f.command(ctx, name, args)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.T.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (f *Folder) command(ctx context.Context, name string, args []string) *exec.Cmd {
	if !strings.Contains(name, "/") {
		name = filepath.Join(Bin(f.T), name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = f.Path, f.Env
	return cmd
}
