package proc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// This binary is its own guard, and with helperEnv set also the supervisor that
// tests kill.
const helperEnv = "MUSTER_PROC_TEST_HELPER"

func TestMain(m *testing.M) {

	if script := os.Getenv(helperEnv); script != "" {
		os.Exit(supervise(script))
	}
	goleak.VerifyTestMain(m)
}

// supervise runs a script as a Child until it is killed.
func supervise(script string) int {
	spec := Spec{Argv: []string{"sh", "-c", script}, Leave: os.Getenv("LEAVE") != ""}
	if in, err := time.ParseDuration(os.Getenv("DEADLINE")); err == nil {
		spec.Deadline.Kill = BootTime() + in
	}
	c, err := Start(spec)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code, err := c.Wait(context.Background())
	fmt.Fprintln(os.Stderr, "ended", code, err)
	return 0
}

// until polls for a condition that another process brings about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for give := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(give) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// pids reads the numbers that a script wrote into a file.
func pids(t *testing.T, file string, n int) []int {
	t.Helper()
	var out []int
	until(t, fmt.Sprintf("%d pids in %s", n, filepath.Base(file)), func() bool {
		data, _ := os.ReadFile(file)
		out = nil
		if !strings.HasSuffix(string(data), "\n") {
			return false
		}
		for _, f := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatalf("pid %q", f)
			}
			out = append(out, pid)
		}
		return len(out) == n
	})
	return out
}

// alive says whether a process runs: a zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return !os.IsNotExist(err)
	}
	rest := string(data)[strings.LastIndexByte(string(data), ')')+1:]
	return !strings.HasPrefix(strings.TrimSpace(rest), "Z")
}

func allDead(list []int) func() bool {
	return func() bool {
		for _, pid := range list {
			if alive(pid) {
				return false
			}
		}
		return true
	}
}
