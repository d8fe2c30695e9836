package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, spec Spec) *Child {
	t.Helper()
	c, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Stop(syscall.SIGKILL, time.Second); err != nil && !strings.Contains(err.Error(), "guard") {
			t.Error(err)
		}
	})
	return c
}

func TestChildExitCode(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -KILL $$": 128 + 9, "exit 255": 255} {
		c := start(t, Spec{Argv: []string{"sh", "-c", script}})
		if code, err := c.Wait(t.Context()); code != want || err != nil {
			t.Errorf("%s: %d, %v", script, code, err)
		}
		if err := c.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
	}
}

func TestChildSurroundings(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\npwd; echo $X $1 >&2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := start(t, Spec{Argv: []string{"./script", "a b"}, Dir: dir, Env: []string{"X=y"}, Stdout: out, Stderr: out})
	if code, err := c.Wait(t.Context()); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	data, _ := os.ReadFile(out.Name())
	if want := dir + "\ny a b\n"; string(data) != want {
		t.Errorf("output %q, want %q", data, want)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	for _, argv := range [][]string{{"/no/such/program"}, {"no-such-program-anywhere"}, nil} {
		if _, err := Start(Spec{Argv: argv}); err == nil {
			t.Errorf("%q started", argv)
		}
	}
	_, err := Start(Spec{Argv: []string{"/no/such/program"}})
	if err == nil || err.Error() != "fork/exec /no/such/program: no such file or directory" {
		t.Errorf("error %v", err)
	}
}

func TestSignalReachesTheGroup(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "got")
	script := fmt.Sprintf(`sh -c 'trap "echo inner >> %[1]s" HUP; echo ready >> %[1]s; while :; do sleep 0.01; done' &
		trap "echo outer >> %[1]s" HUP; echo ready >> %[1]s; while :; do sleep 0.01; done`, file)
	c := start(t, Spec{Argv: []string{"sh", "-c", script}})
	count := func(word string) bool {
		data, _ := os.ReadFile(file)
		return strings.Count(string(data), word) >= 1
	}
	until(t, "both are ready", func() bool {
		data, _ := os.ReadFile(file)
		return strings.Count(string(data), "ready") == 2
	})
	if err := c.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "both got the signal", func() bool { return count("inner") && count("outer") })
	if !alive(c.Pid()) {
		t.Error("the child is dead")
	}
}

func TestStop(t *testing.T) {
	t.Run("obeys", func(t *testing.T) {
		c := start(t, Spec{Argv: []string{"sleep", "1000"}})
		if code, err := c.Stop(syscall.SIGTERM, time.Minute); code != 128+15 || err != nil {
			t.Error(code, err)
		}
	})
	t.Run("does not", func(t *testing.T) {
		for _, leave := range []bool{false, true} {
			file := filepath.Join(t.TempDir(), "pids")
			c := start(t, Spec{Leave: leave, Argv: []string{"sh", "-c", "trap '' INT; echo $$ > " + file + "; while :; do sleep 0.01; done"}})
			pids(t, file, 1)
			if code, err := c.Stop(syscall.SIGINT, 50*time.Millisecond); code != 128+9 || err != nil {
				t.Error(code, err)
			}
			if alive(c.Pid()) {
				t.Error("still alive")
			}
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	c := start(t, Spec{Argv: []string{"sleep", "1000"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// tree is a script that writes the pids of a grandchild, of one in a session of
// its own and of an orphan in another, and its own.
func tree(file, end string) string {
	return fmt.Sprintf(`f=%s; sleep 1000 & echo $! >> $f
		setsid sleep 1000 & echo $! >> $f
		setsid sh -c "sleep 1000 & echo \$! >> $f" &
		while [ $(wc -l < $f) -lt 3 ]; do sleep 0.01; done
		echo $$ >> $f; %s`, file, end)
}

func TestChildsEndTakesWhatItLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	c := start(t, Spec{Argv: []string{"sh", "-c", tree(file, "exit 5")}})
	if code, err := c.Wait(t.Context()); code != 5 || err != nil {
		t.Error(code, err)
	}
	if list := pids(t, file, 4); !allDead(list)() {
		t.Error("something outlived the child's guard")
	}
}

func TestLeave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	c := start(t, Spec{Leave: true, Argv: []string{"sh", "-c", tree(file, "exit 0")}})
	if code, err := c.Wait(t.Context()); code != 0 || err != nil {
		t.Error(code, err)
	}
	for _, pid := range pids(t, file, 4)[:3] {
		if !alive(pid) {
			t.Errorf("%d was killed", pid)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestKillOfTheSupervisorTakesTheTree(t *testing.T) {
	for _, leave := range []string{"", "1"} {
		file := filepath.Join(t.TempDir(), "pids")
		tool := exec.Command(os.Args[0])
		tool.Env = append(os.Environ(), helperEnv+"="+tree(file, "wait; sleep 1000"), "LEAVE="+leave)
		if err := tool.Start(); err != nil {
			t.Fatal(err)
		}
		list := pids(t, file, 4)
		if allDead(list)() {
			t.Fatal("the tree is dead before its time")
		}
		if err := tool.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = tool.Wait() // killed
		until(t, "the tree is gone", allDead(list))
	}
}

func TestKillOfTheGuardTakesTheTree(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	c := start(t, Spec{Argv: []string{"sh", "-c", tree(file, "sleep 1000")}})
	list := pids(t, file, 4)
	if err := c.guard.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != 128+9 || err == nil {
		t.Errorf("%d, %v", code, err)
	}
	if !allDead(list)() {
		t.Error("something is left")
	}
}

// kill(1) does not end a guard behind the child's back: what the guard gets is nobody's,
// and it still does what it is told.
func TestGuardOutlivesSignals(t *testing.T) {
	c := start(t, Spec{Argv: []string{"sleep", "1000"}})
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1} {
		if err := c.guard.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != 128+1 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
}

// Orphans that end below a guard are reaped by it while the child runs.
func TestGuardReapsOrphans(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	c := start(t, Spec{Argv: []string{"sh", "-c", "sh -c 'sleep 0.05 & echo $! >> " + file + "'; sleep 1000"}})
	orphan := pids(t, file, 1)[0]
	until(t, "the orphan is reaped", func() bool { return syscall.Kill(orphan, 0) == syscall.ESRCH })
	if !alive(c.Pid()) {
		t.Error("the child is dead")
	}
}

// A child that has ended by itself was not stopped, and one that ignores SIGTERM is killed.
func TestAwait(t *testing.T) {
	for script, want := range map[string]struct {
		code    int
		stopped bool
	}{
		"exit 7":                     {7, false},
		"echo ready; exec sleep 600": {128 + 15, true},
		"trap '' TERM; echo ready; while :; do sleep 0.1; done": {128 + 9, true},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := start(t, Spec{Argv: []string{"sh", "-c", script}, Stdout: write})
		write.Close()
		ctx, cancel := context.WithCancel(t.Context())
		if want.stopped {
			_, _ = read.Read(make([]byte, 6)) // it is ready
			cancel()
		}
		code, stopped, err := c.Await(ctx, 100*time.Millisecond)
		if code != want.code || stopped != want.stopped || err != nil {
			t.Errorf("%s: %d, stopped %v, %v", script, code, stopped, err)
		}
		cancel()
		read.Close()
	}
}
