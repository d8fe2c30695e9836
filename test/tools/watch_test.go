package tools

import (
	"bufio"
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
	"testing"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// example is a copy of a folder of examples, for tools that ask a and find the agent
// on PATH.
func example(t *testing.T, a *agent, name string) *folder {
	t.Helper()
	f := a.Folder(t)
	if err := os.CopyFS(f.Path, os.DirFS(filepath.Join("../../examples", name))); err != nil {
		t.Fatal(err)
	}
	f.Env = append(f.Env, "HOME="+f.Path, "XDG_STATE_HOME=")
	return f
}

func fire(t *testing.T, a *agent, e api.Event) {
	t.Helper()
	harness.Until(t, "fire "+e.Name, func(ctx context.Context) error {
		_, err := a.EventFire(ctx, e, nil)
		return err
	})
}

// The folder examples/deploy on three machines: one event has all of them download,
// another restarts them, and neither is handled twice whatever happens to watch.
func TestDeployByEvents(t *testing.T) {
	h := harness.Start(t, 3, 1)
	nodes := []string{"s1", "s2", "c1"}
	var folders []*folder
	var tools []*harness.Process
	for _, name := range nodes {
		f := example(t, h.Agent(name), "deploy")
		f.Env = append(f.Env, "MAX_PAUSE=2", `RESTART=sh app`)
		f.Write("app", "cat current >>restarted\n")
		folders = append(folders, f)
		tools = append(tools, f.Run("watch", "-config", "watches.hcl"))
	}
	for _, f := range folders { // nothing was fired yet, which is handled too
		harness.Until(t, "both watches are remembered", func(context.Context) error {
			if kept, _ := filepath.Glob(f.File(".local/state/muster/watch/event-*.json")); len(kept) != 2 {
				return fmt.Errorf("%q", kept)
			}
			return nil
		})
	}
	a := h.Agent("c1")
	for _, version := range []string{"v1", "v2"} {
		a.AwaitPutKey("releases/"+version, "app "+version)
		fire(t, a, api.Event{Name: "deploy", Payload: []byte(version)})
		for _, f := range folders {
			f.AwaitText("next", version+"\n")
			if got := f.Read("releases/" + version); got != "app "+version+"\n" {
				t.Errorf("downloaded %q", got)
			}
			if got := f.Read("restarted"); strings.Contains(got, version) {
				t.Errorf("restarted too early: %q", got)
			}
		}
		fire(t, a, api.Event{Name: "restart"})
		for _, f := range folders {
			f.AwaitPart("restarted", "app "+version+"\n")
		}
	}
	// An event that comes while watch is away is handled when it is back; those before
	// it are not, even after kill -9.
	f := folders[2]
	tools[2].Signal(syscall.SIGKILL)
	<-tools[2].Done()
	a.AwaitPutKey("releases/v3", "app v3")
	fire(t, a, api.Event{Name: "deploy", Payload: []byte("v3")})
	for _, other := range folders[:2] {
		other.AwaitText("next", "v3\n")
	}
	if got := f.Read("next"); got != "v2\n" {
		t.Errorf("next is %q while nothing runs", got)
	}
	f.Run("watch", "-config", "watches.hcl")
	f.AwaitText("next", "v3\n")
	for i, f := range folders {
		got := f.Read("restarted")
		if i == 2 { // at least once: it may have been killed before it could note that it had restarted
			got = strings.Replace(got, "app v2\napp v2\n", "app v2\n", 1)
		}
		if got != "app v1\napp v2\n" {
			t.Errorf("%s restarted with %q", nodes[i], got)
		}
	}
}

// The folder examples/memcached with a real one.
func TestMemcachedFlushedByAnEvent(t *testing.T) {
	program, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not installed: make deps")
	}
	a := harness.Dev(t)
	host, port := strings.TrimSuffix(a.Addr(), ":8500"), "11211"
	f := example(t, a, "memcached")
	args := []string{"-l", host, "-p", port}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	f.Run(program, args...)
	f.Env = append(f.Env, "MEMCACHED="+host+"/"+port)
	f.Write("memcached.json", strings.ReplaceAll(f.Read("memcached.json"), "127.0.0.1", host))
	register := exec.Command(filepath.Join(harness.Bin(t), "agent"), "services", "register", "memcached.json")
	register.Dir, register.Env = f.Path, f.Env
	if out, err := register.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.Run("watch", "-type", "event", "-name", "flush", "./flush")
	memcached := func(command string) (answer string, err error) {
		conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
			return "", err
		}
		answer, err = bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(answer), err
	}
	harness.Until(t, "a value is cached", func(context.Context) error {
		answer, err := memcached("set key 0 0 5\r\nvalue")
		if err == nil && answer != "STORED" {
			err = errors.New(answer)
		}
		return err
	})
	fire(t, a, api.Event{Name: "flush", ServiceFilter: "^elsewhere$"})
	fire(t, a, api.Event{Name: "other", ServiceFilter: "memcached"})
	if answer, err := memcached("get key"); err != nil || !strings.HasPrefix(answer, "VALUE key") {
		t.Errorf("%q, %v: flushed by an event for somebody else", answer, err)
	}
	fire(t, a, api.Event{Name: "flush", ServiceFilter: "memcached"})
	harness.Until(t, "it is flushed", func(context.Context) error {
		answer, err := memcached("get key")
		if err == nil && answer != "END" {
			err = errors.New(answer)
		}
		return err
	})
}

// A handler runs for changes only: not for an outage, a restart of the agent, an election
// or the death of a leader.
func TestWatchThroughOutages(t *testing.T) {
	h := harness.Start(t, 3, 1)
	a := h.Agent("c1")
	a.AwaitPutKey("k", "1")
	registerHere(a, "web", "web-1")
	f := a.Folder(t)
	f.Env = append(f.Env, "HOME="+f.Path, "XDG_STATE_HOME=")
	f.Write("handler", "#!/bin/sh\necho \"$1 $(cat)\" >>told\n")
	f.Run("watch", "-type", "key", "-key", "k", "./handler", "key")
	f.Run("watch", "-type", "service", "-service", "web", "./handler", "service")
	f.Run("watch", "-type", "services", "./handler", "services")
	f.AwaitPart("told", `"Value":"MQ=="`, `"ID":"web-1"`, `services {"consul":`)
	told := f.Read("told")

	for _, s := range h.Agents[:3] { // one after the other, the leader among them
		s.Kill()
		a.AwaitPutKey("elsewhere", s.Name)
		s.Start()
		s.AwaitReady()
	}
	a.Kill()
	a.Start()
	a.AwaitReady()
	a.AwaitPutKey("k", "2")
	f.AwaitPart("told", `"Value":"Mg=="`)
	extra := strings.TrimPrefix(f.Read("told"), told)
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(extra), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "service ") // its serfHealth may have been critical meanwhile
	})
	if len(lines) != 1 || !strings.Contains(lines[0], `"Value":"Mg=="`) {
		t.Errorf("told beyond the change:\n%s", extra)
	}
}
