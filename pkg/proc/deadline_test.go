package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stubborn notes a TERM and goes on, with a grandchild that cannot be TERMed.
func stubborn(file string) string {
	return fmt.Sprintf(`f=%s; setsid sh -c 'trap "" TERM; echo $$ >> '$f'; while :; do sleep 0.01; done' &
		trap 'echo term >> '$f.term TERM; echo $$ >> $f; while :; do sleep 0.01; done`, file)
}

func TestDeadline(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	c := start(t, Spec{Argv: []string{"sh", "-c", stubborn(file)}})
	list := pids(t, file, 2)
	now := BootTime()
	if err := c.Deadline(Deadline{Term: now, Kill: now + 300*time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != 128+9 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if at := BootTime() - now; at < 300*time.Millisecond {
		t.Errorf("killed after %v", at)
	}
	if data, _ := os.ReadFile(file + ".term"); strings.Count(string(data), "term") != 1 {
		t.Errorf("got TERM: %q", data)
	}
	if !allDead(list)() {
		t.Error("something is left")
	}
}

func TestDeadlineIsPutOff(t *testing.T) {
	now := BootTime()
	c := start(t, Spec{Argv: []string{"sleep", "1000"}, Deadline: Deadline{Term: now + time.Minute, Kill: now + time.Minute}})
	for range 20 { // each of them would be over before the next, but for the next
		now = BootTime()
		if err := c.Deadline(Deadline{Term: now + 5*time.Second, Kill: now + 5*time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Deadline(Deadline{}); err != nil { // lifted
		t.Fatal(err)
	}
	if err := c.Deadline(Deadline{Term: now}); err != nil { // past
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != 128+15 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestDeadlineOfAStoppedSupervisor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	tool := exec.Command(os.Args[0])
	tool.Env = append(os.Environ(), helperEnv+"="+stubborn(file), "DEADLINE=3s")
	if err := tool.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tool.Wait() }()
	defer func() { _ = tool.Process.Kill() }()
	list := pids(t, file, 2)
	if err := tool.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the tree is gone", allDead(list))
}
