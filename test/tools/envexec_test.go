package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// onDisk is one server that can be killed and comes back with what it knew.
func onDisk(t *testing.T) *agent {
	t.Helper()
	h := newHouse(t)
	a := h.add("s1", "-server", "-bootstrap-expect=1", "-data-dir="+filepath.Join(h.dir, "s1"))
	a.start()
	a.awaitReady()
	return a
}

// family is a program with a child and a grandchild in a session of its own.
const family = `#!/bin/sh
sh -c 'setsid sh -c "echo \$\$ >far; exec sleep 1000" & echo $$ >near; wait; sleep 1000' &
while [ ! -s far ]; do sleep 0.01; done
echo $$ >child
wait
`

// However envexec ends, nothing that it has started outlives it.
func TestEnvexecLeavesNoOrphan(t *testing.T) {
	a := dev(t)
	a.put("app/a", "1")
	for _, c := range []struct {
		sig  syscall.Signal
		code int
	}{
		{syscall.SIGHUP, 128 + 1}, {syscall.SIGQUIT, 128 + 3}, {syscall.SIGTERM, 128 + 15}, {syscall.SIGINT, 12}, {syscall.SIGKILL, -1},
	} {
		f := work(t, a)
		f.write("family", family)
		tool := f.run("envexec", "-reload-signal=", "-prefix", "app/", "family")
		pids := []int{f.pid("child"), f.pid("near"), f.pid("far")}
		tool.signal(c.sig)
		if code := tool.exit(); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.sig, code, c.code)
		}
		until(t, fmt.Sprintf("%v: the tree is dead", c.sig), func(context.Context) error {
			for _, pid := range pids {
				if alive(pid) {
					return fmt.Errorf("%d of %v lives", pid, pids)
				}
			}
			return nil
		})
	}
}

// Signals between a process and its own runtime do not reach the child; others do.
func TestEnvexecPassesNoRuntimeSignals(t *testing.T) {
	a := dev(t)
	a.put("app/a", "1")
	f := work(t, a)
	f.write("server", `#!/bin/sh
trap 'echo urg >>got' URG
trap 'echo chld >>got' CHLD
trap 'echo usr1 >>got' USR1
while :; do read x <fifo; done
`)
	if err := syscall.Mkfifo(f.file("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := f.run("envexec", "-prefix", "app", "-on-change", "nothing", "./server")
	f.awaitPart("log", "child started")
	for i := range 20 { // work, so that the runtime has reason to signal itself
		a.put("app/a", strconv.Itoa(i))
		tool.signal(syscall.SIGURG)
		tool.signal(syscall.SIGCHLD)
	}
	f.awaitPart("log", "leaving the child as it is")
	until(t, "the child has got the signal", func(context.Context) error {
		tool.signal(syscall.SIGUSR1) // again: its shell may not have been ready
		if f.read("got") == "" {
			return errors.New("nothing yet")
		}
		return nil
	})
	if got := f.read("got"); strings.Contains(got, "urg") || strings.Contains(got, "chld") {
		t.Errorf("the child got %q", got)
	}
}

// As process 1 envexec reaps what its child orphans, and ends with its code.
func TestEnvexecAsProcessOne(t *testing.T) {
	a := dev(t)
	namespaces(t)
	a.put("app/a", "1")
	f := work(t, a)
	f.write("server", `#!/bin/sh
for i in 1 2 3; do (setsid sh -c 'sleep 0.05; echo x >>orphans' &); done
trap 'exit 7' TERM
echo $a >out
while :; do sleep 0.02; done
`)
	tool := f.asInit("envexec", "-prefix", "app", "./server")
	f.awaitText("out", "1\n")
	a.put("app/a", "2")
	f.awaitText("out", "2\n")
	f.awaitPart("orphans", "x\nx\nx\n")
	first, _ := strconv.Atoi(strings.Fields(below(tool.cmd.Process.Pid)[0])[0])
	until(t, "process 1 has no zombie", func(context.Context) error {
		for _, child := range below(first) {
			if strings.HasSuffix(child, "Z") {
				return fmt.Errorf("%s", child)
			}
			pid, _ := strconv.Atoi(strings.Fields(child)[0])
			for _, inner := range below(pid) {
				if strings.HasSuffix(inner, "Z") {
					return fmt.Errorf("below %s: %s", child, inner)
				}
			}
		}
		return nil
	})
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := tool.exit(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

// A reboot without a server: the child starts from what was kept, and the log says so. When
// a server is back, what it has counts.
func TestEnvexecStartsFromTheCache(t *testing.T) {
	a := onDisk(t)
	a.put("app/colour", "red")
	a.register("web", "web1", 8080)
	f := work(t, a)
	f.write("server", "#!/bin/sh\necho $colour $web_port >out\nexec sleep 1000\n")
	args := []string{"-prefix", "app", "-service-query", "web", "-cache-file", "cache/data.json", "./server"}
	tool := f.run("envexec", args...)
	f.awaitText("out", "red 8080\n")
	tool.signal(syscall.SIGTERM)
	tool.exit()
	a.kill()
	if err := os.Remove(f.file("out")); err != nil {
		t.Fatal(err)
	}
	f.run("envexec", args...)
	f.awaitText("out", "red 8080\n")
	f.awaitPart("log", "no agent answers: starting with the data kept on disk")
	a.start()
	a.put("app/colour", "blue")
	f.awaitText("out", "blue 8080\n")
}

// An outage, and the leader's return with the same data, restart nothing; the child's
// death is noticed meanwhile.
func TestEnvexecThroughAnOutage(t *testing.T) {
	a := onDisk(t)
	a.put("app/a", "1")
	f := work(t, a)
	f.write("server", "#!/bin/sh\necho $a >>out\ntrap 'exit 5' USR1\nwhile :; do sleep 0.02; done\n")
	tool := f.run("envexec", "-prefix", "app", "./server")
	f.awaitText("out", "1\n")
	a.kill()
	f.awaitPart("log", "cannot get data, keeping what there is")
	a.start()
	f.awaitPart("log", "got data again")
	a.put("app/a", "2")
	f.awaitText("out", "1\n2\n")
	a.kill()
	tool.signal(syscall.SIGUSR1)
	if code := tool.exit(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// A transaction over many keys is never half of a child's environment.
func TestEnvexecNeverSeesHalfATransaction(t *testing.T) {
	const keys = 40
	a := dev(t)
	commit := func(version int) {
		var ops []*api.TxnOp
		for i := range keys {
			ops = append(ops, &api.TxnOp{KV: &api.TxnKVOp{
				Verb: "set", Key: fmt.Sprintf("txn/%d/k%d", i%2, i), Value: []byte(strconv.Itoa(version)),
			}})
		}
		if _, err := a.Txn(t.Context(), ops, nil); err != nil {
			t.Fatal(err)
		}
	}
	commit(0)
	f := work(t, a)
	var line strings.Builder
	for i := range keys {
		fmt.Fprintf(&line, " $k%d", i)
	}
	f.write("server", "#!/bin/sh\necho"+line.String()+" >>seen\nexec sleep 1000\n")
	f.run("envexec", "-prefix", "txn/0", "-prefix", "txn/1", "./server")
	whole := func(version int) string {
		return strings.TrimSuffix(strings.Repeat(strconv.Itoa(version)+" ", keys), " ") + "\n"
	}
	f.awaitPart("seen", whole(0))
	const last = 60
	for version := 1; version <= last; version++ {
		commit(version)
		<-time.After(5 * time.Millisecond)
	}
	f.awaitPart("seen", whole(last))
	n := 0
	for got := range strings.Lines(f.read("seen")) {
		version, _, _ := strings.Cut(got, " ")
		number, _ := strconv.Atoi(version)
		if got != whole(number) {
			t.Errorf("a child had half a transaction: %s", got)
		}
		n++
	}
	if n < 4 {
		t.Errorf("only %d children were started", n)
	}
}
