package guard

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestDescendantsBothWays(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // the sleep was forked
		t.Fatal(err)
	}
	byList, byStat := descendants(os.Getpid()), descendantsByStat(os.Getpid())
	slices.Sort(byList)
	slices.Sort(byStat)
	if len(byList) < 2 || !slices.Contains(byList, cmd.Process.Pid) || !slices.Equal(byList, byStat) {
		t.Errorf("by list %v, by stat %v", byList, byStat)
	}
	for _, pid := range byList {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	_ = cmd.Wait() // killed
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat(42, "42 (a) b (c) Z 7 42 9 0 -1")
	if !ok || p != (Process{PID: 42, parent: 7, Session: 9, Zombie: true}) {
		t.Errorf("%+v %v", p, ok)
	}
	if _, ok := parseStat(42, "42 (x"); ok {
		t.Error("accepted half a line")
	}
}
