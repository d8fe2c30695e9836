package tools

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// The folder examples/rolling-restart with four services of one agent, two slots:
// never more than two are in maintenance mode, and all are restarted.
func TestRollingRestart(t *testing.T) {
	a := harness.Dev(t)
	const n = 4
	restarted := a.Folder(t)
	var tools []*harness.Process
	for i := range n {
		id := fmt.Sprintf("web%d", i)
		if err := a.ServiceRegister(t.Context(), &api.AgentServiceRegistration{ID: id, Name: "web", Port: 8000 + i}); err != nil {
			t.Fatal(err)
		}
		f := example(t, a, "rolling-restart")
		f.Write("app", fmt.Sprintf(`curl -s "$API/v1/agent/checks" | grep -o '"_service_maintenance:web[0-9]"' | sort -u | wc -l >%s`, restarted.File(id)))
		f.Env = append(f.Env, "SERVICE_ID="+id, "RESTART=sh app", "DRAIN_TIME=0.2", "API=http://"+a.Addr())
		tools = append(tools, f.Run("lock", "-n", "2", "svc/web/restart", "./restart"))
	}
	for i, tool := range tools {
		if code := tool.Exit(); code != 0 {
			t.Errorf("machine %d: exit code %d", i, code)
		}
		switch got := strings.TrimSpace(restarted.Read(fmt.Sprintf("web%d", i))); got {
		case "1", "2":
		default:
			t.Errorf("machine %d was restarted while %q were in maintenance mode", i, got)
		}
	}
	checks, err := a.AgentChecks(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for id := range checks {
		if strings.HasPrefix(id, "_service_maintenance") {
			t.Errorf("%s is left", id)
		}
	}
}

// The folder examples/singleton with three candidates: one runs; when it is killed
// another does, and nothing of the first is left.
func TestSingleton(t *testing.T) {
	a := harness.Dev(t)
	candidates := map[string]*harness.Process{}
	for i := range 3 {
		f := example(t, a, "singleton")
		candidates[fmt.Sprint("m", i)] = f.Run("lock", "elect", "-ttl", "10s", "-value", fmt.Sprint("m", i), "scheduler", "--", "./scheduler")
	}
	f := a.Folder(t)
	run := func(program string, args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(harness.Bin(t), program), args...)
		cmd.Env = f.Env
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	leads := func(not string) (name string, pid int) {
		harness.Until(t, "somebody leads and works", func(ctx context.Context) error {
			var token uint64
			var host string
			var err error
			if name, err = run("lock", "leader", "scheduler"); err != nil || name == not {
				return errors.Join(err, fmt.Errorf("%q leads", name))
			}
			lock, _, err := a.KVGet(ctx, "leader/scheduler/.lock", nil)
			if err != nil || lock == nil {
				return errors.Join(err, errors.New("nobody leads"))
			}
			runs, _, err := a.KVGet(ctx, "scheduler/runs", nil)
			if err != nil || runs == nil {
				return errors.Join(err, errors.New("nobody works"))
			}
			if _, err := fmt.Sscan(string(runs.Value), &host, &token, &pid); err != nil || token != lock.ModifyIndex {
				return fmt.Errorf("%q works, %d leads (%v)", runs.Value, lock.ModifyIndex, err)
			}
			return nil
		})
		return name, pid
	}
	leader, pid := leads("")
	if addrs, err := lookup(t, a, "scheduler.leader.consul."); err != nil || len(addrs) != 1 {
		t.Errorf("by DNS: %v, %v", addrs, err)
	}
	// When one candidate ends, another one leads.
	candidates[leader].Signal(syscall.SIGTERM)
	second, pid2 := leads(leader)
	if harness.Alive(pid) {
		t.Error("the first one still works")
	}
	candidates[second].Signal(syscall.SIGKILL)
	if third, _ := leads(second); third == leader || harness.Alive(pid2) {
		t.Errorf("%s leads after %s and %s; the second still works: %v", third, leader, second, harness.Alive(pid2))
	}
}

func lookup(t *testing.T, a *agent, name string) ([]string, error) {
	t.Helper()
	host, _, err := net.SplitHostPort(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(host, "8600"))
	}}
	return r.LookupHost(t.Context(), name)
}
