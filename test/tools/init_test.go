package tools

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/test/harness"
)

// namespaces says whether this test may make a PID namespace.
func namespaces(t *testing.T) {
	t.Helper()
	if err := exec.Command("unshare", "-pf", "--mount-proc", "--kill-child", "true").Run(); err != nil {
		t.Skipf("no PID namespaces here: unshare -pf --mount-proc: %v", err)
	}
}

// asInit starts a tool as process 1 of a PID namespace of its own.
func asInit(f *folder, name string, args ...string) *harness.Process {
	f.T.Helper()
	return f.Run("/usr/bin/env", append([]string{"unshare", "-pf", "--mount-proc", "--kill-child", name}, args...)...)
}

// below lists the children of a process, as "PID STATE".
func below(pid int) (out []string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for _, child := range strings.Fields(string(data)) {
			stat, _ := os.ReadFile("/proc/" + child + "/stat")
			_, rest, _ := strings.Cut(string(stat), ") ")
			state, _, _ := strings.Cut(rest, " ")
			out = append(out, child+" "+state)
		}
	}
	return out
}

// As process 1 tmpl reaps what others orphan: each rendering's command leaves one
// process behind that ends later.
func TestProcessOneReaps(t *testing.T) {
	a := harness.Dev(t)
	namespaces(t)
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	f.Write("orphan", "#!/bin/sh\n(sh -c 'sleep 0.05; cat out >>orphans' >/dev/null 2>&1 </dev/null &)\n")
	a.AwaitPutKey("k", "1")
	tool := asInit(f, "tmpl", "-template", "in:out:./orphan")
	for i := 1; i <= 3; i++ {
		a.AwaitPutKey("k", strconv.Itoa(i))
		f.AwaitPart("orphans", strconv.Itoa(i))
	}
	inits := below(tool.Pid())
	if len(inits) != 1 {
		t.Fatalf("unshare has the children %v", inits)
	}
	first, _ := strconv.Atoi(strings.Fields(inits[0])[0])
	harness.Until(t, "process 1 has no child but tmpl", func(context.Context) error {
		if all := below(first); len(all) != 1 || strings.HasSuffix(all[0], "Z") {
			return fmt.Errorf("its children are %v", all)
		}
		return nil
	})
	// Process 1 passes a signal to tmpl.
	if err := syscall.Kill(first, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := tool.Exit(); code != 12 {
		t.Errorf("exit code %d, want 12", code)
	}
}

// Process 1 ends with the child's exit code.
func TestProcessOneEndsWithTheChild(t *testing.T) {
	a := harness.Dev(t)
	namespaces(t)
	f := a.Folder(t)
	f.Write("in", "x")
	if code := asInit(f, "tmpl", "-template", "in:out", "-supervise", "exit 7").Exit(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

// systemd is told when all is rendered, and not before.
func TestNotify(t *testing.T) {
	a := harness.Dev(t)
	f := a.Folder(t)
	f.Write("one", "x")
	f.Write("two", `{{ key "late" }}`)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: f.File("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f.Env = append(f.Env, "NOTIFY_SOCKET="+f.File("notify"))
	tool := f.Run("tmpl", "-template", "one:1", "-template", "two:2")
	f.AwaitText("1", "x")
	f.AwaitPart("log", "template waits for data")
	got := make([]byte, 100)
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(got); err == nil {
		t.Fatalf("told %q before all was rendered", got[:n])
	}
	a.AwaitPutKey("late", "v")
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		if err := conn.SetReadDeadline(time.Now().Add(harness.MaxWait)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(got)
		if err != nil || !bytes.Equal(got[:n], []byte(want)) {
			t.Fatalf("told %q (%v), want %q", got[:n], err, want)
		}
		tool.Signal(syscall.SIGTERM)
	}
	tool.Exit()
}

// What is recorded from a real agent renders without it, to the same bytes.
func TestRecordAndTest(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("app/db", "pg")
	a.AwaitPutKey("app/port", "5432")
	a.RegisterNode("web", "web1", 8080)
	f := a.Folder(t)
	f.Write("in", `{{ key "app/db" }}:{{ keyOrDefault "app/port" "1" }}:{{ keyOrDefault "app/none" "-" }}
{{ range ls "app" }}{{ .Key }} {{ end }}
{{ range services }}{{ .Name }}{{ range service (printf "%s|any" .Name) }} {{ .Node }}:{{ .Port }}{{ end }}
{{ end }}{{ with node }}{{ .Node.Node }}{{ end }} {{ range nodes }}{{ .Node }} {{ end }}{{ range datacenters }}{{ . }}{{ end }}
`)
	f.Run("tmpl", "-template", "in:live", "-once").Exit()
	if code, _, errs := f.Once("tmpl", "record", "-template", "in", "-o", "fixture.json"); code != 0 {
		t.Fatalf("record: %d\n%s", code, errs)
	}
	a.Kill()
	f.Env = append(f.Env, "MUSTER_HTTP_ADDR=127.0.0.1:1")
	code, out, errs := f.Once("tmpl", "test", "-fixture", "fixture.json", "-template", "in:live")
	if code != 0 || !strings.Contains(f.Read("live"), "pg:5432:-\ndb port \n") {
		t.Errorf("code %d\n%s%s\nlive:\n%s", code, out, errs, f.Read("live"))
	}
}
