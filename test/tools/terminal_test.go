package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// Ctrl-C at the question for a passphrase leaves the terminal as it was, and the shell
// goes on.
func TestInterruptedPassphrase(t *testing.T) {
	a := harness.Dev(t)
	f := a.Folder(t)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", f.File("key")).CombinedOutput(); err != nil {
		t.Skipf("no key: %v: %s", err, out)
	}
	term := f.Terminal("/bin/bash", "--norc", "--noprofile", "-i")
	term.Type("env exec -sign key true\n")
	term.AwaitText("Passphrase of key:", 1)
	harness.Until(t, "the terminal is quiet", func(context.Context) error {
		if term.Echoes() {
			return errors.New("it echoes")
		}
		return nil
	})
	term.Type("sec\x03")
	term.AwaitText("got signal interrupt", 1)
	term.Type("stty -a | grep -c ' echo '\n")
	term.AwaitText("\n1\r", 1)
	if strings.Contains(term.Text(), "sec") {
		t.Error("what was typed is shown")
	}
	// The right passphrase is accepted.
	term.Type("env exec -sign key true\n")
	term.AwaitText("Passphrase of key:", 2)
	harness.Until(t, "the terminal is quiet", func(context.Context) error {
		if term.Echoes() {
			return errors.New("it echoes")
		}
		return nil
	})
	term.Type("secret\n")
	term.AwaitText("1 refused", 1) // by the node, after it was sent
}

// A log-out sends SIGHUP to what runs in the background; what nohup began goes on, tool
// and child.
func TestNohup(t *testing.T) {
	a := harness.Dev(t)
	a.PutKey("app/name", "v")
	want := map[string]int{"lock": 128 + 15, "envexec": 128 + 15, "watch": 0}
	for name, argv := range map[string][]string{
		"lock":    {"lock", "nohup"},
		"envexec": {"envexec", "-prefix", "app"},
		"watch":   {"watch", "-type", "key", "-key", "app/name", "-initial", "always"},
	} {
		t.Run(name, func(t *testing.T) {
			f := a.Folder(t)
			f.Write("child", "#!/bin/sh\necho $$ >pid\nexec sleep 1000\n")
			tool := f.Run("/usr/bin/nohup", append(argv, "sh", "child")...)
			child := f.Pid("pid")
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child))
			if err != nil {
				t.Fatal(err)
			}
			var ignored uint64
			_, line, _ := strings.Cut(string(status), "SigIgn:")
			if _, err := fmt.Sscanf(line, "%x", &ignored); err != nil || ignored&1 == 0 {
				t.Errorf("the child does not ignore SIGHUP: %x, %v", ignored, err)
			}
			tool.Signal(syscall.SIGHUP)
			tool.Signal(syscall.SIGTERM)
			if code := tool.Exit(); code != want[name] {
				t.Errorf("exit code %d, want %d", code, want[name])
			}
		})
	}
}

// shell is an interactive shell at a terminal, as a user has it.
func shell(t *testing.T, a *agent) (*folder, *harness.Terminal) {
	f := a.Folder(t)
	return f, f.Terminal("/bin/bash", "--norc", "--noprofile", "-i")
}

// A shell below envexec has job control, a program below lock the terminal; Ctrl-C is for
// them alone; and the terminal is the first shell's again afterwards.
func TestInteractiveChild(t *testing.T) {
	a := harness.Dev(t)
	a.PutKey("app/name", "v")
	for name, line := range map[string]string{
		"envexec": "envexec -prefix app bash --norc --noprofile -i",
		"lock":    "lock -pass-stdin x bash --norc --noprofile -i",
	} {
		t.Run(name, func(t *testing.T) {
			_, term := shell(t, a)
			term.Type(line + "\n")
			term.Type("echo inside-$((40+2)) $name\n")
			term.AwaitText("inside-42", 1)
			term.Type("sh -c 'echo be''gins; exec sleep 1000'\n")
			term.AwaitText("begins", 1)
			term.Type("\x1a")
			term.AwaitText("Stopped", 1)
			term.Type("fg\n")
			term.AwaitText("sh -c", 3)
			term.Type("\x03")
			term.AwaitText("^C", 1)
			term.Type("tty >/dev/null && echo here-$((1+1))\n")
			term.AwaitText("here-2", 1)
			term.Type("exit 7\n")
			term.AwaitText("exit", 2)
			term.Type("echo code-$?\n")
			term.AwaitText("code-7", 1)
			term.Type(`sh -c 'echo re''ads; read -r x; echo "got-$x"'` + "\n") // who is not in the foreground cannot
			term.AwaitText("reads", 1)
			term.Type("me\n")
			term.AwaitText("got-me", 1)
			for _, bad := range []string{"no job control", "cannot set terminal"} {
				if strings.Contains(term.Text(), bad) {
					t.Errorf("the shell says %q", bad)
				}
			}
		})
	}
}

// A program below lock that is no shell has /dev/tty though its standard input is not
// passed on, and dies of Ctrl-C as it would by itself.
func TestTerminalBelowLock(t *testing.T) {
	a := harness.Dev(t)
	_, term := shell(t, a)
	term.Type(`lock x 'read -r line </dev/tty; echo "got $line"'` + "\n")
	term.Type("an answer\n")
	term.AwaitText("got an answer", 1)
	term.Type(`lock x 'echo be''gins; exec sleep 1000'` + "\n")
	term.AwaitText("begins", 1)
	term.Type("\x03")
	term.Type("echo code-$?\n")
	term.AwaitText("code-130", 1)
}

// Ctrl-Z stops child and tool; lock says what that costs, and fg continues both. A lock
// that was lost meanwhile is said to be.
func TestStopAtTheTerminal(t *testing.T) {
	a := harness.Dev(t)
	f, term := shell(t, a)
	if err := syscall.Mkfifo(f.File("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The command is no shell loop: a shell that is stopped while it forks (vfork) stops only after that.
	f.Write("work", "echo be''gins\nexec cat fifo\n")
	term.Type("lock -ttl 30s x sh ./work\n")
	term.AwaitText("begins", 1)
	term.Type("\x1a")
	term.AwaitText("stopped: x/.lock is lost, and the command killed, unless it goes on (fg, bg) within", 1)
	term.AwaitText("Stopped", 1)
	term.Type("fg\n")
	f.Write("fifo", "well\n")
	term.AwaitText("well", 1)
	term.Type("echo code-$?\n")
	term.AwaitText("code-0", 1)

	term.Type("lock -ttl 10s y sh ./work\n")
	term.AwaitText("begins", 2)
	term.Type("\x1a")
	term.AwaitText("Stopped", 2)
	harness.Until(t, "the lock is free", func(ctx context.Context) error {
		pair, _, err := a.KVGet(ctx, "y/.lock", nil)
		if err == nil && pair != nil && pair.Session != "" {
			err = errors.New("it is held")
		}
		return err
	})
	term.Type("fg\n")
	term.AwaitText("y/.lock: lock lost", 1)
	term.Type("echo code-$?\n")
	term.AwaitText("code-76", 1)
}

// kill -9 of a tool at a terminal takes the child with all below it, those that have left
// its session too.
func TestKillAtTheTerminal(t *testing.T) {
	a := harness.Dev(t)
	f, term := shell(t, a)
	f.Write("family", "#!/bin/sh\nsetsid sh -c 'echo $$ >one; exec sleep 1000' &\nsh -c 'echo $$ >two; exec sleep 1000' &\necho $$ >three\nwait\n")
	term.Type("lock x sh ./family\n")
	pids := []int{f.Pid("one"), f.Pid("two"), f.Pid("three")}
	term.Type("\x1a")
	term.AwaitText("Stopped", 1)
	term.Type("kill -KILL %1\n")
	harness.Until(t, "all are dead", func(context.Context) error {
		for _, pid := range pids {
			if harness.Alive(pid) {
				return fmt.Errorf("%d lives", pid)
			}
		}
		return nil
	})
}
