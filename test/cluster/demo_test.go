package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/test/harness"
)

// The demo is what a newcomer runs first: it must hold, and leave nothing behind
// however it ends. It has fixed addresses, so its two tests follow each other.
func TestDemo(t *testing.T) {
	t.Parallel()
	t.Run("holds", func(t *testing.T) {
		demo := startDemo(t)
		if err := <-demo.done; err != nil || !strings.Contains(demo.output(), "every step held") {
			t.Fatalf("%v\n%s", err, demo.output())
		}
		demo.awaitNothingLeft(t)
	})
	t.Run("killed", func(t *testing.T) {
		demo := startDemo(t)
		harness.Within(t, 60*time.Second, "HAProxy serves", func(context.Context) error {
			if !strings.Contains(demo.output(), "HAProxy serves web-1 web-2 web-3") {
				return errors.New(demo.output())
			}
			return nil
		})
		if err := demo.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-demo.done
		demo.awaitNothingLeft(t)
	})
}

type demo struct {
	cmd  *exec.Cmd
	done chan error
	tmp  string
	mu   sync.Mutex
	text bytes.Buffer
}

func (d *demo) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(p)
}

func (d *demo) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{done: make(chan error, 1), tmp: t.TempDir()}
	d.cmd = exec.Command(filepath.Join(harness.Bin(t), "demo"), "-bin", harness.Bin(t), "-dir", "../../examples/haproxy")
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	d.cmd.Stdout, d.cmd.Stderr = d, d
	d.cmd.WaitDelay = time.Second // killed, it leaves guards that hold the pipe for a moment
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	return d
}

// awaitNothingLeft waits until no process works in the demo's folder.
func (d *demo) awaitNothingLeft(t *testing.T) {
	t.Helper()
	harness.Within(t, 10*time.Second, "nothing is left", func(context.Context) error {
		dirs, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			return err
		}
		for _, link := range dirs {
			if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, d.tmp) {
				cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
				return fmt.Errorf("still runs: %q", bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
			}
		}
		return nil
	})
}
