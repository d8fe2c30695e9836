package tools

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// unread starts a tool whose standard output and error nobody reads any more.
func unread(t *testing.T, f *folder, name string, args ...string) *exec.Cmd {
	t.Helper()
	r, w, err := os.Pipe()
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := exec.Command(filepath.Join(harness.Bin(t), name), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = f.Path, f.Env, w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// A tool goes on when the reader of its log has gone.
func TestToolsOutliveWhoReadsTheirLog(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k/a", "1")
	f := a.Folder(t)
	f.Write("in", `{{ key "k/a" }}`)
	f.Write("server", "#!/bin/sh\necho $a >>server.out\nexec sleep 600\n")
	f.Write("job", "#!/bin/sh\necho x >job.out\nuntil [ -e end ]; do sleep 0.02; done\n")
	running := map[string]*exec.Cmd{
		"tmpl":    unread(t, f, "tmpl", "-template", "in:out", "-log-level", "debug"),
		"envexec": unread(t, f, "envexec", "-prefix", "k", "-log-level", "debug", "./server"),
		"watch":   unread(t, f, "watch", "-type", "key", "-key", "k/a", "-log-level", "debug", "cat >watch.out"),
		"lock":    unread(t, f, "lock", "-verbose", "svc/x", "./job"),
	}
	f.AwaitText("out", "1")
	f.AwaitText("server.out", "1\n")
	f.AwaitPart("watch.out", "MQ==")
	f.AwaitText("job.out", "x\n")
	a.PutKey("k/a", "2")
	f.AwaitText("out", "2")
	f.AwaitText("server.out", "1\n2\n")
	f.AwaitPart("watch.out", "Mg==")
	for name, cmd := range running {
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.Write("end", "")
	if err := running["lock"].Wait(); err != nil {
		t.Errorf("lock: %v", err)
	}
	once := unread(t, f, "exec", "-verbose", "echo x >exec.out; pwd")
	_ = once.Wait() // the node refuses it, as nodes do by default, which exec says by its code
	if code := once.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exec: %s", once.ProcessState)
	}
}

// A command that only prints ends by SIGPIPE when its reader has gone.
func TestPrintersEndWithTheirReader(t *testing.T) {
	a := harness.Dev(t)
	a.AwaitPutKey("k/a", "1")
	f := a.Folder(t)
	f.Write("in", `{{ key "k/a" }}`)
	for _, args := range [][]string{
		{"watch", "-type", "key", "-key", "k/a", "-o", "jsonl"},
		{"tmpl", "-template", "in:out", "-dry", "-log-level", "error"},
	} {
		cmd := unread(t, f, args[0], args[1:]...)
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
			t.Errorf("%v: %v", args, err)
		}
	}
}
