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
	// And it is taken where it is given.
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
