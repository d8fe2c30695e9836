package tools

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/test/harness"
)

// onDisk is one server that can be killed and comes back with what it knew.
func onDisk(t *testing.T) *agent {
	t.Helper()
	h := harness.New(t)
	a := h.Add("s1", true, "-bootstrap-expect=1")
	a.Start()
	a.AwaitReady()
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
	a := harness.Dev(t)
	a.AwaitPutKey("app/a", "1")
	for _, c := range []struct {
		sig  syscall.Signal
		code int
	}{
		{syscall.SIGHUP, 128 + 1}, {syscall.SIGQUIT, 128 + 3}, {syscall.SIGTERM, 128 + 15}, {syscall.SIGINT, 12}, {syscall.SIGKILL, -1},
	} {
		f := a.Folder(t)
		f.Write("family", family)
		tool := f.Run("envexec", "-reload-signal=", "-prefix", "app/", "family")
		pids := []int{f.Pid("child"), f.Pid("near"), f.Pid("far")}
		tool.Signal(c.sig)
		if code := tool.Exit(); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.sig, code, c.code)
		}
		harness.Until(t, fmt.Sprintf("%v: the tree is dead", c.sig), func(context.Context) error {
			for _, pid := range pids {
				if harness.Alive(pid) {
					return fmt.Errorf("%d of %v lives", pid, pids)
				}
			}
			return nil
		})
	}
}

// Signals between a process and its own runtime do not reach the child; others do.
func TestEnvexecPassesNoRuntimeSignals(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("app/a", "1")
	f := a.Folder(t)
	f.Write("server", `#!/bin/sh
trap 'echo urg >>got' URG
trap 'echo chld >>got' CHLD
trap 'echo usr1 >>got' USR1
echo ready >ready
while :; do read x <fifo; done
`)
	if err := syscall.Mkfifo(f.File("fifo"), 0o600); err != nil { // so that it has no children of its own
		t.Fatal(err)
	}
	tool := f.Run("envexec", "-prefix", "app", "-on-change", "nothing", "./server")
	f.AwaitText("ready", "ready\n")
	for i := range 20 { // work, so that the runtime has reason to signal itself
		a.AwaitPutKey("app/a", strconv.Itoa(i))
		tool.Signal(syscall.SIGURG)
		tool.Signal(syscall.SIGCHLD)
	}
	f.AwaitPart("log", "leaving the child as it is")
	tool.Signal(syscall.SIGUSR1)
	f.AwaitPart("got", "usr1\n")
	if got := f.Read("got"); strings.Contains(got, "urg") || strings.Contains(got, "chld") {
		t.Errorf("the child got %q", got)
	}
}

// As process 1 envexec reaps what its child orphans, and ends with its code.
func TestEnvexecAsProcessOne(t *testing.T) {
	a := harness.Dev(t)
	namespaces(t)
	a.AwaitPutKey("app/a", "1")
	f := a.Folder(t)
	f.Write("server", `#!/bin/sh
for i in 1 2 3; do (setsid sh -c 'sleep 0.05; echo x >>orphans' &); done
trap 'exit 7' TERM
echo $a >out
while :; do sleep 0.02; done
`)
	tool := asInit(f, "envexec", "-prefix", "app", "./server")
	f.AwaitText("out", "1\n")
	a.AwaitPutKey("app/a", "2")
	f.AwaitText("out", "2\n")
	f.AwaitPart("orphans", "x\nx\nx\n")
	first, _ := strconv.Atoi(strings.Fields(below(tool.Pid())[0])[0])
	harness.Until(t, "process 1 has no zombie", func(context.Context) error {
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
	if code := tool.Exit(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

// A reboot without a server: the child starts from what was kept, and the log says so. When
// a server is back, what it has counts.
func TestEnvexecStartsFromTheCache(t *testing.T) {
	a := onDisk(t)
	a.AwaitPutKey("app/colour", "red")
	a.RegisterNode("web", "web1", 8080)
	f := a.Folder(t)
	f.Write("server", "#!/bin/sh\necho $colour $web_port >out\nexec sleep 1000\n")
	args := []string{"-prefix", "app", "-service-query", "web", "-cache-file", "cache/data.json", "./server"}
	tool := f.Run("envexec", args...)
	f.AwaitText("out", "red 8080\n")
	tool.Signal(syscall.SIGTERM)
	tool.Exit()
	a.Kill()
	if err := os.Remove(f.File("out")); err != nil {
		t.Fatal(err)
	}
	f.Run("envexec", args...)
	f.AwaitText("out", "red 8080\n")
	f.AwaitPart("log", "no agent answers: starting with the data kept on disk")
	a.Start()
	a.AwaitPutKey("app/colour", "blue")
	f.AwaitText("out", "blue 8080\n")
}

// An outage, and the leader's return with the same data, restart nothing; the child's
// death is noticed meanwhile.
func TestEnvexecThroughAnOutage(t *testing.T) {
	a := onDisk(t)
	a.AwaitPutKey("app/a", "1")
	f := a.Folder(t)
	f.Write("server", "#!/bin/sh\ntrap 'exit 5' USR1\necho $a >>out\nwhile :; do sleep 0.02; done\n")
	tool := f.Run("envexec", "-prefix", "app", "./server")
	f.AwaitText("out", "1\n")
	a.Kill()
	f.AwaitPart("log", "cannot get data, keeping what there is")
	a.Start()
	f.AwaitPart("log", "got data again")
	a.AwaitPutKey("app/a", "2")
	f.AwaitText("out", "1\n2\n")
	a.Kill()
	tool.Signal(syscall.SIGUSR1)
	if code := tool.Exit(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// A transaction over many keys is never half of a child's environment.
func TestEnvexecNeverSeesHalfATransaction(t *testing.T) {
	const keys = 40
	a := harness.Dev(t)
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
	f := a.Folder(t)
	var line strings.Builder
	for i := range keys {
		fmt.Fprintf(&line, " $k%d", i)
	}
	f.Write("server", "#!/bin/sh\necho"+line.String()+" >>seen\nexec sleep 1000\n")
	f.Run("envexec", "-prefix", "txn/0", "-prefix", "txn/1", "./server")
	whole := func(version int) string {
		return strings.TrimSuffix(strings.Repeat(strconv.Itoa(version)+" ", keys), " ") + "\n"
	}
	f.AwaitPart("seen", whole(0))
	last := 0
	for ; last < 60 || strings.Count(f.Read("seen"), "\n") < 4 && t.Context().Err() == nil; last++ {
		commit(last + 1)
		<-time.After(5 * time.Millisecond)
	}
	f.AwaitPart("seen", whole(last))
	for got := range strings.Lines(f.Read("seen")) {
		version, _, _ := strings.Cut(got, " ")
		number, _ := strconv.Atoi(version)
		if got != whole(number) {
			t.Errorf("a child had half a transaction: %s", got)
		}
	}
}
