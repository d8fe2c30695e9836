// Package sdk drives muster with the official Go client and test harness of the
// API it is compatible with, both unchanged. It is a module of its own, so that
// neither is a dependency of muster: "cd test/sdk && go test ./...".
package sdk

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/sdk/testutil"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run puts our agent first on PATH under the name that the harness looks for.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "muster-sdk-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/agent")
	build.Dir = filepath.Join("..", "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		return 1
	}
	if err := os.Symlink("agent", filepath.Join(dir, "consul")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv("PATH", dir+":"+os.Getenv("PATH")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// start runs a server as the harness does by default and waits until it has
// registered itself.
func start(t *testing.T, change testutil.ServerConfigCallback) (*testutil.TestServer, *api.Client) {
	t.Helper()
	t.Parallel()
	s, c := launch(t, change)
	s.WaitForLeader(t)
	s.WaitForSerfCheck(t)
	return s, c
}

// launch starts a server without waiting.
func launch(t *testing.T, change testutil.ServerConfigCallback) (*testutil.TestServer, *api.Client) {
	t.Helper()
	output := testutil.NewLogBuffer(t)
	s, err := testutil.NewTestServerConfigT(t, func(c *testutil.TestServerConfig) {
		c.Stdout, c.Stderr = io.Discard, output
		if change != nil {
			change(c)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	conf := api.DefaultConfig()
	conf.Address = s.HTTPAddr
	client, err := api.NewClient(conf)
	if err != nil {
		t.Fatal(err)
	}
	return s, client
}

// eventually asks until there is no error, and fails the test at the limit.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	const limit = 15 * time.Second
	deadline := time.After(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-t.Context().Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waiting bounds a blocking query of a test.
func waiting(index uint64) *api.QueryOptions {
	return &api.QueryOptions{WaitIndex: index, WaitTime: 20 * time.Second}
}
