package tools

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// Whoever can fire an event chooses its payload: one that is a path leads nowhere.
func TestDeployHostilePayload(t *testing.T) {
	a := harness.Dev(t)
	f := example(t, a, "deploy")
	a.PutKey("releases/v1", "app v1")
	for _, payload := range []string{"../evil", "../../evil", "/evil", ".", "..", ".hidden", "-rf", "a b", "v1\nv2", "$(touch evil)", "v1/../../evil"} {
		event := fmt.Sprintf(`[{"ID":"x","Name":"deploy","Payload":"%s"}]`, base64.StdEncoding.EncodeToString([]byte(payload)))
		code, _, stderr := f.Once("/bin/sh", "-c", "echo '"+event+"' | ./download")
		if code != 0 || !strings.Contains(stderr, "no version that is taken") {
			t.Errorf("%q: exit code %d, %s", payload, code, stderr)
		}
	}
	for _, path := range []string{"evil", "../evil", "next", "releases"} {
		if _, err := os.Lstat(f.File(path)); err == nil {
			t.Errorf("%s was made", path)
		}
	}
	event := fmt.Sprintf(`[{"ID":"x","Name":"deploy","Payload":"%s"}]`, base64.StdEncoding.EncodeToString([]byte("v1")))
	if code, _, stderr := f.Once("/bin/sh", "-c", "echo '"+event+"' | ./download"); code != 0 || f.Read("releases/v1") != "app v1\n" {
		t.Errorf("v1: exit code %d, %s", code, stderr)
	}
}

// A restart that is ended by a signal leaves no maintenance mode behind, whatever sh is;
// the agent's address may be a URL.
func TestRestartIsEnded(t *testing.T) {
	a := harness.Dev(t)
	if err := a.ServiceRegister(t.Context(), &api.AgentServiceRegistration{ID: "web", Name: "web", Port: 80}); err != nil {
		t.Fatal(err)
	}
	drained := func(ctx context.Context) (bool, error) {
		checks, err := a.AgentChecks(ctx, nil)
		return checks["_service_maintenance:web"] != nil, err
	}
	for _, sh := range []string{"dash", "bash"} {
		f := example(t, a, "rolling-restart")
		f.Env = append(f.Env, "RESTART=true", "DRAIN_TIME=1000", "MUSTER_HTTP_ADDR=http://"+a.Addr())
		tool := f.Run("lock", "-kill-timeout", "30s", "svc/web/restart", sh, "./restart")
		harness.Until(t, "it drains", func(ctx context.Context) error {
			yes, err := drained(ctx)
			if err == nil && !yes {
				err = errors.New("not yet")
			}
			return err
		})
		tool.Signal(syscall.SIGTERM)
		if code := tool.Exit(); code != 143 {
			t.Errorf("%s: exit code %d", sh, code)
		}
		if yes, err := drained(t.Context()); yes || err != nil {
			t.Errorf("%s: maintenance mode is left (%v)", sh, err)
		}
		f.Env = append(f.Env, "DRAIN_TIME=0")
		if code, _, stderr := f.Once("lock", "svc/web/restart", sh, "./restart"); code != 0 {
			t.Errorf("%s: exit code %d, %s", sh, code, stderr)
		}
	}
	// The same for examples/singleton.
	f := example(t, a, "singleton")
	f.Env = append(f.Env, "MUSTER_HTTP_ADDR=http://"+a.Addr())
	f.Run("lock", "elect", "scheduler", "--", "./scheduler")
	harness.Until(t, "the leader writes", func(ctx context.Context) error {
		pair, _, err := a.KVGet(ctx, "scheduler/runs", nil)
		if err == nil && pair == nil {
			err = errors.New("nothing yet")
		}
		return err
	})
}
