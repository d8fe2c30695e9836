package tools

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

func deleteKey(ctx context.Context, a *agent, key string) error {
	_, err := a.KVDelete(ctx, key, client.KVWrite{}, nil)
	return err
}

func TestSignals(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k", "v")
	for _, c := range []struct {
		sig  syscall.Signal
		args []string
		code int
	}{
		{syscall.SIGTERM, nil, 0},
		{syscall.SIGINT, nil, 12},
		{syscall.SIGTERM, []string{"-exec", "echo $$ >pid; exec sleep 1000"}, 0},
		{syscall.SIGINT, []string{"-exec", "echo $$ >pid; exec sleep 1000"}, 12},
		{syscall.SIGQUIT, []string{"-kill-signal", "QUIT"}, 12},
	} {
		f := a.Folder(t)
		f.Write("in", `{{ key "k" }}`)
		tool := f.Run("tmpl", append(c.args, "-template", "in:out")...)
		f.AwaitText("out", "v")
		child := 0
		if len(c.args) > 0 && c.args[0] == "-exec" {
			child = f.Pid("pid")
		}
		tool.Signal(c.sig)
		if code := tool.Exit(); code != c.code {
			t.Errorf("%v %v: exit code %d, want %d", c.sig, c.args, code, c.code)
		}
		if child != 0 && harness.Alive(child) {
			t.Errorf("%v %v: the command outlives tmpl", c.sig, c.args)
		}
	}
}

// A signal that means nothing to tmpl is for the command.
func TestSignalsOfTheCommand(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k", "v")
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	f.Write("daemon", `#!/bin/sh
trap 'echo usr1 >>got' USR1
trap 'echo quit >>got' QUIT
trap 'exit 0' INT
echo start >>got
while :; do sleep 0.02; done
`)
	tool := f.Run("tmpl", "-template", "in:out", "-exec", "daemon")
	f.AwaitText("got", "start\n")
	tool.Signal(syscall.SIGUSR1)
	f.AwaitText("got", "start\nusr1\n")
	tool.Signal(syscall.SIGQUIT)
	f.AwaitText("got", "start\nusr1\nquit\n")
	tool.Signal(syscall.SIGTERM)
	if code := tool.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// SIGHUP reads the templates again; one that cannot be parsed changes nothing,
// and an unchanged one runs nothing.
func TestReload(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k", "v")
	f := a.Folder(t)
	f.Write("in", `1 {{ key "k" }}`)
	f.Write("other.in", `other {{ key "k" }}`)
	tool := f.Run("tmpl", "-template", "in:out:echo in >>runs", "-template", "other.in:other:echo other >>runs", "-exec", "echo exec >>runs")
	f.AwaitText("runs", "in\nother\nexec\n")
	f.Write("in", `2 {{ key "k"`)
	tool.Signal(syscall.SIGHUP)
	f.AwaitPart("log", "cannot use the template, keeping the one before", "in:1: unclosed action")
	a.AwaitPutKey("k", "w")
	f.AwaitText("out", "1 w")
	f.AwaitText("runs", "in\nother\nexec\nin\nother\nexec\n")
	f.Write("in", `3 {{ keyOrDefault "k" "none" }}`)
	tool.Signal(syscall.SIGHUP)
	f.AwaitText("out", "3 w")
	f.AwaitText("runs", "in\nother\nexec\nin\nother\nexec\nin\nexec\n")
	tool.Signal(syscall.SIGTERM)
	if code := tool.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestExitCodes(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k", "v")
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	f.Write("syntax", "line\n{{ range }}")
	f.Write("vault", `{{ secret "x" }}`)
	f.Write("fails", `{{ index (split "," (key "k")) 5 }}`)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"-template in:out -once", 0, ""},
		{"--template=in:out --once", 0, ""},
		{"-template in:out -nope", 13, "flag provided but not defined: -nope"},
		{"-template in:out -wait x", 13, `invalid value "x" for flag -wait`},
		{"", 15, "no template given"},
		{"-template in", 15, "template in has no destination"},
		{"-template in:out -config x.hcl", 15, "stat x.hcl: no such file"},
		{"-template none:out", 14, "read template: open none: no such file"},
		{"-template syntax:out", 14, "parse template: syntax:2: "},
		{"-template vault:out", 14, "not supported by muster"},
		{"-template fails:out -once", 14, "execute template: fails:1:"},
		{"-template in:/proc/none/out", 14, "write /proc/none/out"},
		{"-template in:out2:exit_7 -once -shell=false", 14, "exit_7"},
		{"-template in:out -once -exec ./code", 9, `run "./code": exit code 9`},
		{"-template in:out3:./code -once", 9, `run "./code": exit code 9`},
		{"-template in:out -once -exec ./dies", 128 + 15, "ended by signal terminated"},
	} {
		f.Write("code", "#!/bin/sh\nexit 9\n")
		f.Write("dies", "#!/bin/sh\nkill $$\n")
		code, _, stderr := f.Once("tmpl", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("tmpl %s: code %d, want %d and %q:\n%s", c.args, code, c.code, c.says, stderr)
		}
	}
}

// kill -9 of tmpl takes a running command with all that it has started, but not
// what a finished one has left behind.
func TestKillOfTmpl(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k", "1")
	f := a.Folder(t)
	f.Write("in", `{{ key "k" }}`)
	f.Write("run", `#!/bin/sh
if [ "$(cat out)" = 1 ]; then
	setsid sleep 1000 & echo $! >left
	exit 0
fi
sh -c 'sleep 1000 & echo $! >child; setsid sh -c "sleep 1000 & echo \$! >grandchild; wait" & wait' &
wait
`)
	tool := f.Run("tmpl", "-template", "in:out", "-exec", "run")
	f.AwaitPart("log", "command is done")
	left := f.Pid("left")
	a.AwaitPutKey("k", "2")
	pids := []int{f.Pid("child"), f.Pid("grandchild")}
	if !harness.Alive(left) {
		t.Fatal("what a finished command has left was killed by its next run")
	}
	tool.Signal(syscall.SIGKILL)
	tool.Exit()
	for _, pid := range pids {
		harness.Until(t, "the running command's tree is dead", func(context.Context) error {
			if harness.Alive(pid) {
				return fmt.Errorf("%d lives", pid)
			}
			return nil
		})
	}
	if !harness.Alive(left) {
		t.Error("what a finished command has left was killed")
	}
}
