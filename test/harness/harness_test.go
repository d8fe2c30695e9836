package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// What the others stand on: agents that come, go and come back, and tools whose
// trees are gone when their folder is.
func TestHarness(t *testing.T) {
	c := Start(t, 1, 1)
	a := c.Agent("c1")
	a.PutKey("k", "v")
	if c.Leader() != c.Agent("s1") {
		t.Errorf("%s leads", c.Leader().Name)
	}
	a.Pause()
	a.Resume()
	a.Kill()
	if a.Up() || len(c.Running()) != 1 {
		t.Error("a killed agent is up")
	}
	a.Start()
	a.AwaitReady()
	if got := a.GetKey("k", nil); got != "v" {
		t.Errorf("read %q", got)
	}
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	if code, out, errs := f.Once("tmpl", "-template", "in:out", "-once", "-dry"); code != 0 || !strings.Contains(out, "v") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	p := f.Run("/bin/sh", "-c", "setsid sh -c 'echo $$ >left; exec sleep 1000' & wait")
	left := f.Pid("left")
	p.Signal(syscall.SIGKILL)
	if code := p.Exit(); code != -1 {
		t.Errorf("killed, it ends with %d", code)
	}
	if !Alive(left) || len(Running(f.Path)) != 1 {
		t.Error("what was left does not count as running")
	}
	f.KillLeft()
	if Alive(left) {
		t.Error("what was left still runs")
	}
}

// What is buried has left nobody who writes.
func TestBuried(t *testing.T) {
	dir := t.TempDir()
	p := spawn(t, dir+"/log", exec.Command("/bin/sh", "-c", "sleep 0.2 & wait"))
	Until(t, "it runs something", func(context.Context) error {
		if len(children(p.Pid())) == 0 {
			return errors.New("nothing")
		}
		return nil
	})
	below := children(p.Pid())
	if p.killAndAwaitChildren(); Alive(below[0]) {
		t.Error("what it ran still runs")
	}
}

// No two test processes have a network or a port in common, and neither have two
// tests.
func TestOwnNetworksAndPorts(t *testing.T) {
	nets, ports := map[string]bool{}, map[int]bool{}
	for range 50 {
		nets[Net(t)], ports[Port(t)] = true, true
	}
	if len(nets) != 50 || len(ports) != 50 {
		t.Errorf("%d networks and %d ports of 50", len(nets), len(ports))
	}
	other := exec.Command(os.Args[0], "-test.run=^TestClaim$", "-test.v")
	out, err := other.CombinedOutput()
	if mine := fmt.Sprintf("claims %d\n", claim(t)); err != nil || !strings.Contains(string(out), "claims ") || strings.Contains(string(out), mine) {
		t.Errorf("this one %s, another %v: %s", mine, err, out)
	}
}

func TestClaim(t *testing.T) { fmt.Printf("claims %d\n", claim(t)) }
