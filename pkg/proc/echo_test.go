package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// However a signal comes, to the tool alone or to all processes of the service in
// whatever order, the child gets exactly one.
func TestChildGetsOneOfEachSignal(t *testing.T) {
	for _, to := range []string{"tool", "tool guard child", "child guard tool", "guard child tool", "guard tool child"} {
		t.Run(to, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "got")
			c := start(t, Spec{Argv: []string{"sh", "-c", fmt.Sprintf(`trap "echo got >>%[1]s" TERM; trap "echo over >>%[1]s" WINCH; echo ready >>%[1]s
				while :; do sleep 0.01; done`, file)}})
			said := func(word string) int {
				data, _ := os.ReadFile(file)
				return strings.Count(string(data), word+"\n")
			}
			until(t, "ready", func() bool { return said("ready") == 1 })
			// The shell itself, not its sleep: that ends by itself and makes no difference.
			for _, who := range strings.Fields(to) {
				var err error
				switch who {
				case "tool":
					err = c.Pass(syscall.SIGTERM)
				case "guard":
					err = c.guard.cmd.Process.Signal(syscall.SIGTERM)
				case "child":
					err = syscall.Kill(c.Pid(), syscall.SIGTERM)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			// What is passed on now is sent after what was passed on before. Of two pending
			// signals a shell runs the trap of the lower number first.
			if err := c.Pass(syscall.SIGWINCH); err != nil {
				t.Fatal(err)
			}
			until(t, "all is said", func() bool { return said("over") == 1 })
			if n := said("got"); n != 1 {
				t.Errorf("the child got %d", n)
			}
		})
	}
}

// A signal of our own will does not wait for an echo, and is not taken for one.
func TestOwnSignalIsNoEcho(t *testing.T) {
	file := filepath.Join(t.TempDir(), "got")
	c := start(t, Spec{Argv: []string{"sh", "-c", fmt.Sprintf(`trap "echo got >>%[1]s" HUP; echo ready >>%[1]s; while :; do sleep 0.01; done`, file)}})
	said := func(word string) int {
		data, _ := os.ReadFile(file)
		return strings.Count(string(data), word+"\n")
	}
	until(t, "ready", func() bool { return said("ready") == 1 })
	for n := 1; n <= 3; n++ {
		if err := c.guard.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := c.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until(t, "it came", func() bool { return said("got") == n })
	}
}
