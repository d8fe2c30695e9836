// Package tools tests tmpl, envexec and watch as their users run them: the real binaries,
// real muster agents, a real HAProxy.
package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// patience is how long a condition may take to hold.
const patience = 30 * time.Second

// bin is the folder of the binaries under test.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "muster-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir+"/", "../../cmd/agent", "../../cmd/tmpl", "../../cmd/envexec", "../../cmd/watch")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		return 1
	}
	return m.Run()
}

// until asks until there is no error, and fails the test when that takes too long.
func until(t *testing.T, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// nets gives every house a 127.x.y.0/24 of its own.
var nets atomic.Int32

// house is a cluster of agents.
type house struct {
	t      *testing.T
	net    string // "127.x.y"
	dir    string
	agents []*agent
}

// agent can be killed and started again.
type agent struct {
	house *house
	name  string
	addr  string // host:port of its HTTP API
	flags []string
	cmd   *exec.Cmd
	done  chan struct{}
	*client.Client
}

func newHouse(t *testing.T) *house {
	t.Parallel()
	return &house{t: t, dir: t.TempDir(), net: fmt.Sprintf("127.%d.%d", 200+os.Getpid()%50, nets.Add(1))}
}

// dev is one agent in memory.
func dev(t *testing.T) *agent {
	t.Helper()
	a := newHouse(t).add("dev", "-dev")
	a.start()
	a.awaitReady()
	return a
}

// cluster is three servers, s1 to s3, and a client, c1, on disk.
func cluster(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	for _, name := range []string{"s1", "s2", "s3", "c1"} {
		flags := []string{"-data-dir=" + filepath.Join(h.dir, name), "-retry-interval=1s"}
		for i := range 3 {
			flags = append(flags, fmt.Sprintf("-retry-join=%s.%d", h.net, i+1))
		}
		if name != "c1" {
			flags = append(flags, "-server", "-bootstrap-expect=3")
		}
		h.add(name, flags...).start()
	}
	for _, a := range h.agents {
		a.awaitReady()
	}
	return h
}

func (h *house) add(name string, flags ...string) *agent {
	h.t.Helper()
	ip := fmt.Sprintf("%s.%d", h.net, len(h.agents)+1)
	a := &agent{house: h, name: name, addr: ip + ":8500"}
	a.flags = append([]string{"-node=" + name, "-bind=" + ip, "-client=" + ip}, flags...)
	var err error
	if a.Client, err = client.New(client.Config{Address: a.addr}); err != nil {
		h.t.Fatal(err)
	}
	h.agents = append(h.agents, a)
	h.t.Cleanup(func() {
		a.kill()
		a.CloseIdle()
		if h.t.Failed() {
			h.t.Logf("-- end of %s's log\n%s", name, tail(a.log(), 30))
		}
	})
	return a
}

func (h *house) agent(name string) *agent {
	for _, a := range h.agents {
		if a.name == name {
			return a
		}
	}
	h.t.Fatalf("no agent %s", name)
	return nil
}

// servers are s1 to s3.
func (h *house) servers() []*agent { return h.agents[:3] }

func (a *agent) log() string { return filepath.Join(a.house.dir, a.name+".log") }

func (a *agent) start() {
	a.house.t.Helper()
	a.cmd, a.done = spawn(a.house.t, a.log(), exec.Command(filepath.Join(bin, "agent"), a.flags...))
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

// awaitReady waits until the agent knows everyone by the catalog.
func (a *agent) awaitReady() {
	t := a.house.t
	t.Helper()
	until(t, a.name+" knows everyone", func(ctx context.Context) error {
		checks, _, err := a.HealthState(ctx, api.HealthPassing, nil)
		if err == nil && len(checks) < len(a.house.agents) {
			err = fmt.Errorf("%d checks pass", len(checks))
		}
		return err
	})
}

// put writes a key, again and again while nobody leads.
func (a *agent) put(key, value string) {
	t := a.house.t
	t.Helper()
	until(t, "put "+key, func(ctx context.Context) error {
		_, err := a.KVPut(ctx, key, []byte(value), client.KVWrite{}, nil)
		return err
	})
}

// register puts an instance into the catalog, on a node that runs no agent.
func (a *agent) register(service, id string, port int) {
	a.house.t.Helper()
	if err := a.CatalogRegister(a.house.t.Context(), &api.CatalogRegistration{
		Node: "outside", Address: "192.0.2.1",
		Service: &api.NodeService{Service: service, ID: id, Port: port},
	}); err != nil {
		a.house.t.Fatal(err)
	}
}

// spawn starts cmd; done closes when it has ended, by then at the latest when
// the test process does.
func spawn(t *testing.T, log string, cmd *exec.Cmd) (*exec.Cmd, chan struct{}) {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = file
	}
	cmd.Stderr = file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	return cmd, done
}

// folder is where one or more tools run.
type folder struct {
	t    *testing.T
	path string
	env  []string
}

// work is a folder for tools that ask a. It kills what is left there in the end.
func work(t *testing.T, a *agent) *folder {
	f := &folder{t: t, path: t.TempDir(), env: append(os.Environ(), "MUSTER_HTTP_ADDR="+a.addr)}
	t.Cleanup(f.killLeft)
	return f
}

func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

func (f *folder) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.file(name), []byte(text), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

// read is a file's text, "" when there is none.
func (f *folder) read(name string) string {
	data, _ := os.ReadFile(f.file(name))
	return string(data)
}

func (f *folder) awaitText(name, want string) {
	f.t.Helper()
	until(f.t, name+" reads "+strconv.Quote(want), func(context.Context) error {
		if got := f.read(name); got != want {
			return fmt.Errorf("it reads %q", got)
		}
		return nil
	})
}

// awaitPart waits until a file holds every part.
func (f *folder) awaitPart(name string, parts ...string) {
	f.t.Helper()
	until(f.t, name, func(context.Context) error {
		text := f.read(name)
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return fmt.Errorf("no %q in %q", part, text)
			}
		}
		return nil
	})
}

// running lists the processes that work in the folder.
func (f *folder) running() []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range dirs {
		if cwd, err := os.Readlink(link); err == nil && cwd == f.path {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (f *folder) killLeft() {
	for _, pid := range f.running() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// tool is one of them that runs.
type tool struct {
	f    *folder
	cmd  *exec.Cmd
	done chan struct{}
}

// tmpl starts the binary in the folder; what it logs goes to the file log.
func (f *folder) tmpl(args ...string) *tool { return f.run("tmpl", args...) }

// run starts a tool.
func (f *folder) run(name string, args ...string) *tool {
	f.t.Helper()
	return f.spawn(exec.Command(filepath.Join(bin, name), args...))
}

func (f *folder) spawn(cmd *exec.Cmd) *tool {
	f.t.Helper()
	cmd.Dir, cmd.Env = f.path, f.env
	t := &tool{f: f}
	t.cmd, t.done = spawn(f.t, f.file("log"), cmd)
	f.t.Cleanup(func() {
		_ = t.cmd.Process.Kill()
		<-t.done
		if f.t.Failed() {
			f.t.Logf("-- end of the tool's log\n%s", tail(f.file("log"), 30))
		}
	})
	return t
}

// once runs the binary to its end.
func (f *folder) once(args ...string) (code int, stdout, stderr string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "tmpl"), args...)
	cmd.Dir, cmd.Env = f.path, f.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (t *tool) signal(sig syscall.Signal) {
	t.f.t.Helper()
	if err := t.cmd.Process.Signal(sig); err != nil {
		t.f.t.Fatal(err)
	}
}

// exit waits for the end and returns the code; -1 when a signal ended it.
func (t *tool) exit() int {
	t.f.t.Helper()
	select {
	case <-t.done:
		return t.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.f.t.Fatal("the tool does not end")
		return -1
	}
}

func tail(path string, n int) string {
	data, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// alive says whether a process runs: a dead one that nobody has reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// ports are given out below the range that outgoing connections take theirs
// from.
var ports atomic.Int32

func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10000 + (os.Getpid()%100)*100 + int(ports.Add(1))%100)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
