// Package harness runs muster in tests as its users run it: real processes,
// built once for a test process, on loopback addresses that no other test uses.
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
//
//	func TestLock(t *testing.T) {
//		c := harness.Start(t, 3, 1) // servers s1, s2, s3 and the client agent c1
//		f := c.Agent("c1").Folder(t)
//		tool := f.Run("lock", "deploy/", "./migrate.sh")
//		c.Leader().Kill()
//		f.AwaitText("out", "done\n")
//	}
//
// At the end of every test the states of its servers are compared (checkReplicas).
// A condition is waited for with Until, never slept for. All processes are gone
// when their test is; when it failed, the ends of their logs are in its output.
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built are the folders of binaries of this test process. The test binary has no
// other place that lives as long as it does.
var built struct {
	plain, race folder
}

type folder struct {
	once sync.Once
	path string
	err  error
}

// Main runs the tests of a package and removes the programs that it has built.
func Main(m interface{ Run() int }) int {
	defer func() {
		for _, f := range []*folder{&built.plain, &built.race} {
			if f.path != "" {
				_ = os.RemoveAll(f.path)
			}
		}
	}()
	return m.Run()
}

// Bin is the folder of the binaries under test: everything in ./cmd, and the
// programs of examples/haproxy.
func Bin(t testing.TB) string {
	t.Helper()
	return built.plain.build(t, "./cmd/...", "./examples/haproxy/...")
}

// RaceBin is the folder of an agent with the race detector in it; it ends with 66
// after a race.
func RaceBin(t testing.TB) string {
	t.Helper()
	return built.race.build(t, "-race", "./cmd/agent")
}

func (f *folder) build(t testing.TB, args ...string) string {
	t.Helper()
	f.once.Do(func() {
		root, err := moduleRoot()
		if err == nil {
			f.path, err = os.MkdirTemp("", "muster-bin-")
		}
		if err != nil {
			f.err = err
			return
		}
		cmd := exec.Command("go", append([]string{"build", "-o", f.path + "/"}, args...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			f.err = fmt.Errorf("build the binaries: %w\n%s", err, out)
		}
	})
	if f.err != nil {
		t.Fatal(f.err)
	}
	return f.path
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the tests")
		}
	}
	return "", err
}
