package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/proc"
	"github.com/muster-dev/muster/pkg/retry"
)

// deployment is all processes of the demo, each with a log file.
type deployment struct {
	bin, work string
	haproxy   string // path of the program; "" if it is not installed
	web       string // where HAProxy listens
	stats     string // where its statistics are
	names     []string
	children  map[string]*proc.Child
}

// agents by name, servers first, with their addresses.
var agents = []struct{ name, ip string }{
	{"server-1", "127.0.0.11"}, {"server-2", "127.0.0.12"}, {"server-3", "127.0.0.13"},
	{"client-1", "127.0.0.21"}, {"client-2", "127.0.0.22"},
}

func newDeployment(bin, work string) (*deployment, error) {
	h := &deployment{bin: bin, work: work, children: map[string]*proc.Child{}}
	for _, addr := range []*string{&h.web, &h.stats} {
		var err error
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			h.haproxy = path
			break
		}
	}
	return h, nil
}

// freeAddr is a free address. Two HAProxies on one address share it without an error,
// and each answers a part of the requests.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port for HAProxy: %w", err)
	}
	return ln.Addr().String(), ln.Close()
}

func (h *deployment) copyFiles(from string) error {
	for name, mode := range map[string]os.FileMode{"haproxy.ctmpl": 0o644, "reload": 0o755} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(h.work, name), data, mode); err != nil {
			return err
		}
	}
	return nil
}

// start runs one of our binaries in the working folder.
func (h *deployment) start(name, binary string, env []string, args ...string) error {
	log, err := os.Create(filepath.Join(h.work, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	child, err := proc.Start(proc.Spec{
		Argv:   append([]string{filepath.Join(h.bin, binary)}, args...),
		Dir:    h.work,
		Env:    append(os.Environ(), env...),
		Stdout: log,
		Stderr: log,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	h.names = append(h.names, name)
	h.children[name] = child
	return nil
}

func (h *deployment) startAgents(ctx context.Context) error {
	for _, a := range agents {
		args := []string{"-node=" + a.name, "-bind=" + a.ip, "-client=" + a.ip,
			"-data-dir=" + filepath.Join(h.work, a.name), "-retry-join=" + agents[0].ip, "-retry-interval=1s"}
		if strings.HasPrefix(a.name, "server") {
			args = append(args, "-server", "-bootstrap-expect=3")
		}
		if err := h.start(a.name, "agent", nil, args...); err != nil {
			return err
		}
	}
	c, err := h.client("client-1")
	if err != nil {
		return err
	}
	var checks []*api.HealthCheck
	var dead string
	err = until(ctx, func() (bool, error) {
		if dead = h.firstDead(); dead != "" {
			return true, nil
		}
		var err error
		checks, _, err = c.HealthState(ctx, api.HealthPassing, nil)
		return err == nil && len(checks) == len(agents), nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d nodes: %d answer: %w", len(agents), len(checks), err)
	}
	if dead != "" {
		return fmt.Errorf("%s has ended; its log says why", dead)
	}
	return nil
}

// firstDead names a child that has ended.
func (h *deployment) firstDead() string {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, name := range h.names {
		if _, err := h.children[name].Wait(ended); err == nil {
			return name
		}
	}
	return ""
}

func (h *deployment) client(agent string) (*client.Client, error) {
	return client.New(client.Config{Address: net.JoinHostPort(ipOf(agent), "8500")})
}

func ipOf(agent string) string {
	for _, a := range agents {
		if a.name == agent {
			return a.ip
		}
	}
	return ""
}

// leader is the name of the agent that leads.
func (h *deployment) leader(ctx context.Context) (string, error) {
	c, err := h.client("client-1")
	if err != nil {
		return "", err
	}
	addr, err := c.StatusLeader(ctx)
	if err != nil {
		return "", err
	}
	for _, a := range agents {
		if strings.HasPrefix(addr, a.ip+":") {
			return a.name, nil
		}
	}
	return "", fmt.Errorf("the leader's address is %q, which is none of ours", addr)
}

// startWeb starts a backend and registers it at an agent, with a check.
func (h *deployment) startWeb(ctx context.Context, name, agent string, n int) error {
	ip, port := ipOf(agent), 9000+n
	addr := net.JoinHostPort(ip, fmt.Sprint(port))
	if err := h.start(name, "web", nil, "-addr="+addr, "-name="+name); err != nil {
		return err
	}
	if err := until(ctx, func() (bool, error) {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil, nil
	}); err != nil {
		return fmt.Errorf("wait for %s: %w", name, err)
	}
	c, err := h.client(agent)
	if err != nil {
		return err
	}
	return c.ServiceRegister(ctx, &api.AgentServiceRegistration{
		Name: "web", ID: name, Address: ip, Port: port,
		Check: &api.CheckDefinition{
			HTTP:     "http://" + addr + "/health",
			Interval: api.Duration(time.Second),
			Timeout:  api.Duration(time.Second),
		},
	})
}

func (h *deployment) startTmpl(context.Context) error {
	args := []string{"-template", "haproxy.ctmpl:haproxy.cfg"}
	if h.haproxy != "" {
		args = append(args, "-exec", "reload")
	}
	_, web, _ := net.SplitHostPort(h.web)
	_, stats, _ := net.SplitHostPort(h.stats)
	env := []string{"MUSTER_HTTP_ADDR=" + ipOf("client-1") + ":8500", "WEB_PORT=" + web, "STATS_PORT=" + stats}
	return h.start("tmpl", "tmpl", env, args...)
}

// kill is kill -9, and waits until the process is gone.
func (h *deployment) kill(name string) error {
	child := h.children[name]
	if child == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := child.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_, err := child.Wait(context.Background())
	h.forget(name)
	return err
}

func (h *deployment) forget(name string) {
	delete(h.children, name)
	h.names = slices.DeleteFunc(h.names, func(n string) bool { return n == name })
}

// stop ends everything, the newest first, HAProxy too: it runs below tmpl's guard.
func (h *deployment) stop() {
	h.stopHAProxy()
	for _, name := range slices.Backward(h.names) {
		_, _ = h.children[name].Stop(syscall.SIGKILL, time.Second)
	}
}

func (h *deployment) stopHAProxy() {
	data, err := os.ReadFile(filepath.Join(h.work, "haproxy.pid"))
	if err != nil {
		return
	}
	for _, field := range strings.Fields(string(data)) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}

// printLogs shows the end of every log, for when something failed.
func (h *deployment) printLogs(w io.Writer) {
	logs, _ := filepath.Glob(filepath.Join(h.work, "*.log"))
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		lines = lines[max(0, len(lines)-15):]
		fmt.Fprintf(w, "\n-- %s\n%s\n", filepath.Base(path), strings.Join(lines, "\n"))
	}
}

// until polls until ok, an error, or the end of ctx.
func until(ctx context.Context, ok func() (bool, error)) error {
	var last error
	for {
		done, err := ok()
		if done {
			return nil
		}
		last = err
		if err := retry.Sleep(ctx, 10*time.Millisecond); err != nil {
			return errors.Join(err, last)
		}
	}
}
