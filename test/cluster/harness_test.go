// Package cluster tests muster as its users run it: real processes on loopback
// addresses of their own, with data on disk.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// bin is the folder of the binaries under test; raceBin of those with the race
// detector in them.
var bin, raceBin string

func TestMain(m *testing.M) {
	if file := os.Getenv(beatEnv); file != "" {
		beatFor(file)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "muster-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin, raceBin = filepath.Join(dir, "plain"), filepath.Join(dir, "race")
	for folder, flags := range map[string][]string{bin: nil, raceBin: {"-race"}} {
		args := append([]string{"build", "-o", folder + "/"}, flags...)
		args = append(args, "../../cmd/agent", "../../cmd/tmpl", "../../cmd/lock", "../../examples/haproxy/web", "../../examples/haproxy/demo")
		cmd := exec.Command("go", args...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			return 1
		}
	}
	return m.Run()
}

// nets gives every cluster a 127.x.y.0/24 of its own.
var nets atomic.Int32

type cluster struct {
	t      *testing.T
	bin    string
	net    string // "127.x.y"
	dir    string
	flags  []string // for every agent
	agents []*agent
}

// agent is one muster agent; it can be stopped and started again.
type agent struct {
	c      *cluster
	name   string
	ip     string
	server bool
	flags  []string
	cmd    *exec.Cmd
	done   chan error
	*client.Client
}

func newCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	t.Parallel()
	n := int(nets.Add(1))
	return &cluster{
		t: t, bin: bin, dir: t.TempDir(), flags: flags,
		net: fmt.Sprintf("127.%d.%d", 64+os.Getpid()%128, n),
	}
}

// start runs servers and clients and waits until all see each other and writes
// are accepted.
func start(t *testing.T, servers, clients int, flags ...string) *cluster {
	t.Helper()
	c := newCluster(t, flags...)
	c.launch(servers, clients)
	return c
}

func (c *cluster) launch(servers, clients int) {
	c.t.Helper()
	for i := range servers {
		c.add(fmt.Sprintf("s%d", i+1), true, fmt.Sprintf("-bootstrap-expect=%d", servers)).start()
	}
	for i := range clients {
		c.add(fmt.Sprintf("c%d", i+1), false).start()
	}
	c.awaitReady()
}

func (c *cluster) add(name string, server bool, flags ...string) *agent {
	a := &agent{c: c, name: name, server: server, ip: fmt.Sprintf("%s.%d", c.net, len(c.agents)+1)}
	a.flags = append([]string{
		"-node=" + name, "-bind=" + a.ip, "-client=" + a.ip, "-data-dir=" + filepath.Join(c.dir, name),
		"-retry-join=" + c.net + ".1", "-retry-join=" + c.net + ".2", "-retry-interval=1s", "-log-level=debug",
	}, flags...)
	if server {
		a.flags = append(a.flags, "-server")
	}
	a.flags = append(a.flags, c.flags...)
	api, err := client.New(client.Config{Address: a.ip + ":8500"})
	if err != nil {
		c.t.Fatal(err)
	}
	a.Client = api
	c.agents = append(c.agents, a)
	c.t.Cleanup(func() {
		a.kill()
		a.CloseIdle()
		if c.t.Failed() {
			c.t.Logf("-- end of %s's log\n%s", a.name, tail(a.logPath(), 40))
		}
	})
	return a
}

func (a *agent) logPath() string { return filepath.Join(a.c.dir, a.name+".log") }

func tail(path string, n int) string {
	data, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (a *agent) start() {
	a.c.t.Helper()
	log, err := os.OpenFile(a.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		a.c.t.Fatal(err)
	}
	defer log.Close()
	a.cmd = exec.Command(filepath.Join(a.c.bin, "agent"), a.flags...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		a.c.t.Fatal(err)
	}
	a.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(a.cmd, a.done)
}

// kill is kill -9.
func (a *agent) kill() {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Kill()
	<-a.done
	a.cmd = nil
}

func (a *agent) signal(sig syscall.Signal) {
	a.c.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.c.t.Fatal(err)
	}
}

// exit waits until the agent has ended by itself and returns its code.
func (a *agent) exit() int {
	a.c.t.Helper()
	select {
	case err := <-a.done:
		a.cmd = nil
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		return 0
	case <-time.After(20 * time.Second):
		a.c.t.Fatalf("%s does not end", a.name)
		return -1
	}
}

func (c *cluster) awaitReady() {
	c.t.Helper()
	want := len(c.agents)
	for _, a := range c.agents {
		eventually(c.t, 60*time.Second, a.name+" sees everyone pass", func(ctx context.Context) error {
			checks, _, err := a.HealthState(ctx, api.HealthPassing, nil)
			if err != nil {
				return err
			}
			n := 0
			for _, check := range checks {
				if check.CheckID == api.SerfHealthID {
					n++
				}
			}
			if n != want {
				return fmt.Errorf("%d of %d pass", n, want)
			}
			return nil
		})
	}
}

// leader is the agent that leads now.
func (c *cluster) leader() *agent {
	c.t.Helper()
	var found *agent
	eventually(c.t, 30*time.Second, "a leader", func(ctx context.Context) error {
		for _, asked := range c.agents {
			if asked.cmd == nil {
				continue
			}
			addr, err := asked.StatusLeader(ctx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(c.agents, func(a *agent) bool { return strings.HasPrefix(addr, a.ip+":") })
			if i >= 0 && c.agents[i].cmd != nil {
				found = c.agents[i]
				return nil
			}
		}
		return errors.New("nobody names one that lives")
	})
	return found
}

// follower is a server that does not lead.
func (c *cluster) follower() *agent {
	lead := c.leader()
	i := slices.IndexFunc(c.agents, func(a *agent) bool { return a.server && a != lead && a.cmd != nil })
	return c.agents[i]
}

func (c *cluster) agent(name string) *agent {
	i := slices.IndexFunc(c.agents, func(a *agent) bool { return a.name == name })
	return c.agents[i]
}

// eventually asks until there is no error, and fails the test at the limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (a *agent) put(key, value string) {
	a.c.t.Helper()
	if ok, err := a.KVPut(a.c.t.Context(), key, []byte(value), client.KVWrite{}, nil); err != nil || !ok {
		a.c.t.Fatalf("put %s at %s: %v, %v", key, a.name, ok, err)
	}
}

// get reads a key; "" where there is none.
func (a *agent) get(key string, o *client.Options) string {
	a.c.t.Helper()
	pair, _, err := a.KVGet(a.c.t.Context(), key, o)
	if err != nil {
		a.c.t.Fatalf("get %s at %s: %v", key, a.name, err)
	}
	if pair == nil {
		return ""
	}
	return string(pair.Value)
}

// nodeStatus is serfHealth of a node as this agent reads it, "" for none.
func (a *agent) nodeStatus(ctx context.Context, node string) (string, error) {
	checks, _, err := a.HealthNode(ctx, node, nil)
	if err != nil {
		return "", err
	}
	for _, c := range checks {
		if c.CheckID == api.SerfHealthID {
			return c.Status, nil
		}
	}
	return "", nil
}

// ports are given out below the range that outgoing connections take theirs
// from, so that nothing takes one between here and its use.
var ports atomic.Int32

func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20000 + (os.Getpid()%100)*100 + int(ports.Add(1))%100
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
