package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// lan is a network between agents each of which has a network stack of its own, as
// if it were a machine: a Linux namespace for each, tied to a switch (a bridge) that
// the test is tied to as well. A second switch is for those that are cut off.
type lan struct {
	t    *testing.T
	name string // begins the names of all that it is made of
	net  string // "198.x.y"
	size int
}

// Apart is Start for agents with network stacks of their own, which Cut and Heal part
// and join. It needs root and iproute2; without them the test is skipped.
func Apart(t *testing.T, servers, clients int, flags ...string) *Cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces need iproute2:", err)
	}
	c := New(t, flags...)
	c.lan = newLan(t)
	c.Net = c.lan.net
	c.lan.must("ip", "addr", "add", c.Net+".254/24", "dev", c.lan.bridge(0))
	c.Launch(servers, clients)
	return c
}

// newLan makes the switches. Two networks, 198.18.0.0/15 of RFC 2544, are a test
// process's own: what is there already was left by one that was killed.
func newLan(t *testing.T) *lan {
	t.Helper()
	n := int(own.lans.Add(1)) - 1
	if n > 1 {
		t.Fatal("more than two networks of machines for one test process")
	}
	l := &lan{t: t, name: fmt.Sprintf("mu%d%c", claim(t), 'a'+n), net: fmt.Sprintf("198.%d.%d", 18+n, claim(t))}
	l.clear()
	if out, err := exec.Command("ip", "netns", "add", l.home(0)).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v: %s", err, out)
	}
	t.Cleanup(l.clear)
	for n := range 2 {
		l.must("ip", "link", "add", l.bridge(n), "type", "bridge")
		l.must("ip", "link", "set", l.bridge(n), "up")
	}
	return l
}

func (l *lan) bridge(n int) string { return fmt.Sprint(l.name, "b", n) }
func (l *lan) port(n int) string   { return fmt.Sprint(l.name, "p", n) }
func (l *lan) home(n int) string   { return fmt.Sprint(l.name, "n", n) }

// clear takes everything away; what is not there is no fault. The cables first: the
// kernel takes its time with a stack that was left.
func (l *lan) clear() {
	for _, name := range l.named("link") {
		_ = exec.Command("ip", "link", "del", name).Run()
	}
	for _, name := range l.named("netns") {
		_ = exec.Command("ip", "netns", "del", name).Run()
	}
}

// named are the things of a kind whose names are this network's.
func (l *lan) named(kind string) (names []string) {
	out, _ := exec.Command("ip", "-brief", kind, "show").Output()
	for _, word := range strings.Fields(string(out)) {
		if name, _, _ := strings.Cut(word, "@"); strings.HasPrefix(name, l.name) {
			names = append(names, name)
		}
	}
	return names
}

// attach makes the stack of agent n, with its address.
func (l *lan) attach(n int, ip string) {
	l.t.Helper()
	home, port := l.home(n), l.port(n)
	l.must("ip", "netns", "add", home)
	l.must("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", home)
	l.must("ip", "link", "set", port, "master", l.bridge(0), "up")
	l.must("ip", "-n", home, "addr", "add", ip+"/24", "dev", "eth0")
	l.must("ip", "-n", home, "link", "set", "eth0", "up")
	l.must("ip", "-n", home, "link", "set", "lo", "up")
	l.size = n
}

func (l *lan) must(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// Cut parts some agents from the others, and from the test. Among themselves they go
// on talking.
func (c *Cluster) Cut(some ...*Agent) {
	c.T.Helper()
	c.cut = true
	for _, a := range some {
		c.lan.must("ip", "link", "set", c.lan.port(a.nth), "master", c.lan.bridge(1))
	}
}

// Heal joins all of them again.
func (c *Cluster) Heal() {
	c.T.Helper()
	c.cut = false
	for n := 1; n <= c.lan.size; n++ {
		c.lan.must("ip", "link", "set", c.lan.port(n), "master", c.lan.bridge(0))
	}
}

// Beside makes a command one that runs on the agent's network.
func (a *Agent) Beside(cmd *exec.Cmd) *exec.Cmd {
	if a.C.lan == nil {
		return cmd
	}
	around := exec.Command("nsenter", append([]string{"--net=/var/run/netns/" + a.C.lan.home(a.nth), "--", cmd.Path}, cmd.Args[1:]...)...)
	around.Env, around.Dir = cmd.Env, cmd.Dir
	around.Stdin, around.Stdout, around.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	return around
}
