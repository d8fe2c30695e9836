package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

// consulBinary is the reference's program; without it a test is left out.
func consulBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("MUSTER_TEST_CONSUL")
	if path == "" {
		path = "../../bin/peers/usr/bin/consul" // where tools/deps.sh puts it
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skipf("no consul program (%v): MUSTER_TEST_CONSUL names one", err)
	}
	return path
}

// Our tool and the reference's wait for each other, whichever comes first, at an
// agent of ours and at one of the reference's.
func TestLockBesideConsul(t *testing.T) {
	consul := consulBinary(t)
	c := harness.New(t)
	c.Launch(1, 0)
	theirs := startConsul(t, c, consul)
	ours := filepath.Join(harness.Bin(t), "lock")
	for at, addr := range map[string]string{"muster": c.Agents[0].IP + ":8500", "consul": theirs} {
		for kind, flags := range map[string][]string{"lock": nil, "semaphore": {"-n=2"}} {
			for first, argv := range map[string][2][]string{
				"lock then consul lock": {{ours}, {consul, "lock"}},
				"consul lock then lock": {{consul, "lock"}, {ours}},
			} {
				t.Run(at+"/"+kind+"/"+first, func(t *testing.T) {
					takeTurns(t, addr, strings.ReplaceAll(kind+"/"+first, " ", "-"), argv, flags)
				})
			}
		}
	}
}

// takeTurns has one tool hold the lock (both slots of a semaphore) and sees that
// the other waits, and comes when it is released.
func takeTurns(t *testing.T, addr, prefix string, argv [2][]string, flags []string) {
	dir := t.TempDir()
	enter := func(i int, name string) *exec.Cmd {
		args := append(append(argv[i][1:len(argv[i]):len(argv[i])], "-http-addr="+addr), flags...)
		cmd := exec.Command(argv[i][0], append(args, prefix, "touch "+name+"; exec sleep 1000")...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // the reference's child dies of this only
			_ = cmd.Wait()                                      // its code says nothing here
		})
		return cmd
	}
	runs := func(name string) func(context.Context) error {
		return func(context.Context) error { _, err := os.Stat(filepath.Join(dir, name)); return err }
	}
	holder := enter(0, "first")
	harness.Within(t, 30*time.Second, "the first holds", runs("first"))
	if len(flags) > 0 {
		enter(0, "second")
		harness.Within(t, 30*time.Second, "the second holds", runs("second"))
	}
	enter(1, "rival")
	asker, err := client.New(client.Config{Address: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer asker.CloseIdle()
	harness.Within(t, 30*time.Second, "the rival has a session", func(ctx context.Context) error {
		all, _, err := asker.SessionList(ctx, nil)
		n := 0
		for _, s := range all {
			if strings.Contains(s.Name, prefix) {
				n++
			}
		}
		if err == nil && n < 2+len(flags) {
			err = errors.New("not yet")
		}
		return err
	})
	time.Sleep(300 * time.Millisecond) // a rival that does not wait would have started
	if runs("rival")(t.Context()) == nil {
		t.Fatal("both hold it")
	}
	if err := holder.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	harness.Within(t, 30*time.Second, "the rival holds", runs("rival"))
}

// startConsul runs an agent of the reference's and gives its address.
func startConsul(t *testing.T, c *cluster, consul string) string {
	t.Helper()
	ip := c.Net + ".9"
	log, err := os.Create(filepath.Join(c.Dir, "consul.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(consul, "agent", "-dev", "-bind="+ip, "-client="+ip, "-node=theirs")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	asker, err := client.New(client.Config{Address: ip + ":8500"})
	if err != nil {
		t.Fatal(err)
	}
	defer asker.CloseIdle()
	harness.Within(t, 60*time.Second, "the reference's agent leads", func(ctx context.Context) error {
		// A session needs the node, which is registered some time after the election.
		id, err := asker.SessionCreate(ctx, api.SessionCreate{NodeChecks: []string{}}, nil)
		if err != nil {
			return err
		}
		return asker.SessionDestroy(ctx, id, nil)
	})
	return ip + ":8500"
}

// What is asked of a Consul about jobs is answered with what it is; what is asked about
// locks, and about successes noted beside them, as by our own agents.
func TestAskingAConsul(t *testing.T) {
	addr := startConsul(t, harness.New(t), consulBinary(t))
	run := func(name string, args ...string) (code int, out string) {
		cmd := exec.Command(filepath.Join(harness.Bin(t), name), args...)
		cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+addr, "PATH="+harness.Bin(t)+":"+os.Getenv("PATH"))
		text, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(text)
	}
	for _, tt := range []struct {
		argv []string
		code int
		part string
	}{
		{[]string{"exec", "status"}, 1, "it is a Consul"},
		{[]string{"exec", "status", "5f3c1e0a"}, 1, "it is a Consul"},
		{[]string{"exec", "stop", "5f3c1e0a"}, 1, "it is a Consul"},
		{[]string{"exec", "-dry-run", "-o", "jsonl"}, 0, `{"Node":"theirs","Alive":true}`},
		{[]string{"lock", "-once-per", "v1", "deploy", "lock ls; lock show deploy/.lock -json; lock verify -key deploy"}, 0, "deploy  1/1   0"},
		{[]string{"lock", "-once-per", "v1", "-verbose", "deploy", "echo again"}, 0, "Done already"},
		{[]string{"lock", "-n", "2", "svc", "lock show $LOCK_KEY"}, 0, "Held:     1/2"},
		{[]string{"lock", "break", "deploy", "-json"}, 1, "lock not held"},
	} {
		if code, out := run(tt.argv[0], tt.argv[1:]...); code != tt.code || !strings.Contains(out, tt.part) {
			t.Errorf("%q: exit code %d, %s", tt.argv, code, out)
		}
	}
}
