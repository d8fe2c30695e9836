package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/test/harness"
)

const remoteExec = "-hcl=enable_remote_exec=true"

// execRun is the exec tool at work, with -o jsonl.
type execRun struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err bytes.Buffer
	done     chan error
}

// exec starts the tool against this agent.
func startExec(a *agent, args ...string) *execRun {
	a.C.T.Helper()
	r := &execRun{t: a.C.T, done: make(chan error, 1)}
	r.cmd = exec.Command(filepath.Join(harness.Bin(a.C.T), "exec"), append([]string{"-http-addr=" + a.IP + ":8500", "-o=jsonl"}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	r.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// result waits for the end and returns the exit code, and each node's state and
// what it wrote.
func (r *execRun) result() (code int, states, output map[string]string) {
	r.t.Helper()
	select {
	case err := <-r.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			r.t.Fatal(err)
		}
	case <-time.After(60 * time.Second):
		r.t.Fatalf("exec does not end: %s %s", &r.out, &r.err)
	}
	states, output = map[string]string{}, map[string]string{}
	dec := json.NewDecoder(&r.out)
	for dec.More() {
		var v struct{ Type, Node, State, Data, Error string }
		if err := dec.Decode(&v); err != nil {
			r.t.Fatal(err)
		}
		switch v.Type {
		case "target":
			states[v.Node] = v.State
		case "output":
			output[v.Node] += v.Data
		}
	}
	r.t.Logf("exec: code %d, states %v, output %.300q, stderr %q", code, states, output, &r.err)
	return code, states, output
}

func (r *execRun) want(code int, states map[string]string) map[string]string {
	r.t.Helper()
	gotCode, got, output := r.result()
	if gotCode != code || !maps.Equal(got, states) {
		r.t.Fatalf("exit code %d, want %d; targets are %v, want %v", gotCode, code, got, states)
	}
	return output
}

func all(state string, nodes ...string) map[string]string {
	out := map[string]string{}
	for _, n := range nodes {
		out[n] = state
	}
	return out
}

// pids waits for the files in which each node's command has written its process id.
func pidsOf(c *cluster, dir string, nodes ...string) map[string]int {
	c.T.Helper()
	out := map[string]int{}
	harness.Within(c.T, 30*time.Second, "commands run", func(context.Context) error {
		for _, n := range nodes {
			data, err := os.ReadFile(filepath.Join(dir, n))
			if err != nil {
				return err
			}
			if out[n], err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

func dead(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || strings.Contains(string(stat), ") Z ") {
		return nil
	}
	return fmt.Errorf("process %d lives", pid)
}

const writePid = `echo $$ >"$0/$MUSTER_EXEC_NODE"; `

// sh is a command line that runs a text with a directory as $0.
func sh(text, dir string) []string { return []string{"sh", "-c", text, dir} }

func TestExecEverywhere(t *testing.T) {
	c := harness.Start(t, 3, 3, remoteExec)
	names := []string{"s1", "s2", "s3", "c1", "c2", "c3"}
	output := startExec(c.Agent("c1"), `echo "$MUSTER_EXEC_NODE"; echo again >&2`).want(0, all(api.ExecOK, names...))
	for _, n := range names {
		if !strings.Contains(output[n], n+"\n") || !strings.Contains(output[n], "again\n") {
			t.Errorf("%s wrote %q", n, output[n])
		}
	}

	// Much output, from all of them at once, arrives whole.
	for n, text := range startExec(c.Agent("s2"), "seq 1 60000").want(0, all(api.ExecOK, names...)) {
		if lines := strings.Fields(text); len(lines) != 60000 || lines[59999] != "60000" {
			t.Errorf("%s: %d lines", n, len(lines))
		}
	}

	// One that fails is not hidden by the others.
	want := all(api.ExecOK, names...)
	want["c2"] = api.ExecFailed
	startExec(c.Agent("c3"), `test "$MUSTER_EXEC_NODE" != c2`).want(2, want)

	// One at a time, in order, and no more after a failure.
	startExec(c.Agent("c1"), "-node=^c", "-n=1", "-max-fail=1", `test "$MUSTER_EXEC_NODE" = c1`).want(2,
		map[string]string{"c1": api.ExecOK, "c2": api.ExecFailed, "c3": api.ExecSkipped})

	// A node that has failed is lost, at once.
	c.Agent("c3").Kill()
	c.Agent("c1").AwaitStatus("c3", api.HealthCritical)
	startExec(c.Agent("c1"), "-node=^c", "true").want(2, map[string]string{"c1": api.ExecOK, "c2": api.ExecOK, "c3": api.ExecLost})
}

// A leader that dies while commands run changes nothing of the result; one that is
// itself a target is lost, and the rest is true.
func TestExecThroughTheDeathOfTheLeader(t *testing.T) {
	c := harness.Start(t, 3, 3, remoteExec)
	lead := c.Leader()
	dir := t.TempDir()
	run := startExec(c.Agent("c1"), sh(writePid+"sleep 3; echo done; exit 0", dir)...)
	pidsOf(c, dir, "s1", "s2", "s3", "c1", "c2", "c3")
	lead.Kill()
	want := all(api.ExecOK, "s1", "s2", "s3", "c1", "c2", "c3")
	want[lead.Name] = api.ExecLost
	output := run.want(2, want)
	for n := range want {
		if n != lead.Name && output[n] != "done\n" {
			t.Errorf("%s wrote %q", n, output[n])
		}
	}

	// Where no target was lost, it is a success, and nothing of the output is.
	lead.Start()
	c.AwaitReady()
	dir = t.TempDir()
	run = startExec(c.Agent("c2"), append([]string{"-node=^c"}, sh(writePid+"for i in 1 2 3 4 5 6; do seq $((i*10000)) $((i*10000+9999)); sleep 0.5; done", dir)...)...)
	pidsOf(c, dir, "c1", "c2", "c3")
	c.Leader().Kill()
	for n, text := range run.want(0, all(api.ExecOK, "c1", "c2", "c3")) {
		lines := strings.Fields(text)
		if len(lines) != 60000 || !slices.IsSorted(lines) || lines[0] != "10000" || lines[59999] != "69999" {
			t.Errorf("%s: %d lines", n, len(lines))
		}
	}
}

// An agent that is killed takes its command along, and is lost; so says the same
// agent once it is back.
func TestExecKilledAgentIsLost(t *testing.T) {
	c := harness.Start(t, 1, 2, remoteExec)
	dir := t.TempDir()
	run := startExec(c.Agent("s1"), append([]string{"-node=^c"}, sh(writePid+"sleep 4", dir)...)...)
	pids := pidsOf(c, dir, "c1", "c2")
	c.Agent("c1").Kill()
	harness.Within(t, 10*time.Second, "its command is dead", func(context.Context) error { return dead(pids["c1"]) })
	run.want(2, map[string]string{"c1": api.ExecLost, "c2": api.ExecOK})

	c.Agent("c1").Start()
	c.AwaitReady()
	dir = t.TempDir()
	run = startExec(c.Agent("s1"), append([]string{"-node=^c"}, sh(writePid+"sleep 4", dir)...)...)
	pidsOf(c, dir, "c1", "c2")
	c.Agent("c1").Kill()
	c.Agent("c1").Start() // before anybody has noticed
	run.want(2, map[string]string{"c1": api.ExecLost, "c2": api.ExecOK})
	if _, err := os.Stat(filepath.Join(dir, "c1")); err != nil {
		t.Error(err)
	}
}

// Ctrl-C ends what runs on every node, with all it has started.
func TestExecInterruptedStopsEverywhere(t *testing.T) {
	c := harness.Start(t, 1, 2, remoteExec)
	dir := t.TempDir()
	run := startExec(c.Agent("c1"), "-n=2", "sh", "-c", `setsid sleep 3600 & echo $! >"$0/$MUSTER_EXEC_NODE"; wait`, dir)
	pids := pidsOf(c, dir, "c1", "c2")
	if err := run.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	run.want(1, map[string]string{"c1": api.ExecStopped, "c2": api.ExecStopped, "s1": api.ExecSkipped})
	for n, pid := range pids {
		if err := dead(pid); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// With keys configured nothing unsigned runs, whoever orders it and however, and
// what is signed runs once.
func TestExecSigned(t *testing.T) {
	c := harness.New(t, remoteExec)
	key, line := sshKey(t, c.Dir, "known")
	foreign, _ := sshKey(t, c.Dir, "foreign")
	c.Flags = append(c.Flags, fmt.Sprintf("-hcl=exec_authorized_keys = [%q]", line))
	c.Launch(1, 1)
	names := []string{"c1", "s1"}
	startExec(c.Agent("c1"), "true").want(2, all(api.ExecRefused, names...))
	startExec(c.Agent("c1"), "-sign="+foreign, "true").want(2, all(api.ExecRefused, names...))
	output := startExec(c.Agent("c1"), "-sign="+key, "echo hello").want(0, all(api.ExecOK, names...))
	if output["c1"] != "hello\n" {
		t.Errorf("c1 wrote %q", output["c1"])
	}
	verifyBySSHKeygen(t, c, line)
	if run := exec.Command(filepath.Join(harness.Bin(t), "agent"), "exec", "-http-addr="+c.Agent("s1").IP+":8500", "-sign="+key, "true"); run.Run() != nil {
		t.Error("agent exec -sign fails")
	}
}

// verifyBySSHKeygen verifies one order of the cluster as docs/exec.md tells it, and
// no other: the key has signed one.
func verifyBySSHKeygen(t *testing.T, c *cluster, line string) {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Log("ssh-keygen is not installed: that it verifies orders is not tested")
		return
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	allowed := write("allowed_signers", []byte("ops@example.com "+line+"\n"))
	jobs, _, err := c.Agent("c1").Client.ExecJobs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	for _, listed := range jobs {
		job, _, err := c.Agent("c1").Client.ExecJob(t.Context(), listed.ID, &client.Options{Params: url.Values{"request": {""}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(job.Request.Signature) == 0 {
			continue
		}
		cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "ops@example.com", "-n", "muster-exec-order", "-s", write("order.sig", job.Request.Signature))
		cmd.Stdin = bytes.NewReader(job.Request.Order)
		out, err := cmd.CombinedOutput()
		t.Logf("ssh-keygen: %v, %s", err, out)
		if err == nil {
			verified++
		}
	}
	if len(jobs) != 3 || verified != 1 {
		t.Errorf("ssh-keygen verifies %d of %d orders, want 1 of 3", verified, len(jobs))
	}
}

// The tool and the agents also speak the protocol of Consul's: here with each
// other, through a proxy behind which nothing else is known. A node that allows named
// jobs only does not answer to it.
func TestExecByTheProtocolOfConsul(t *testing.T) {
	c := harness.New(t)
	for i, hcl := range []string{"disable_remote_exec=false", "", "enable_remote_exec=true\njob \"x\" { argv = [\"true\"] }"} {
		a := c.Add(fmt.Sprintf("n%d", i+1), i == 0, "-hcl="+hcl)
		if a.Server {
			a.Flags = append(a.Flags, "-bootstrap-expect=1")
		}
		a.Start()
	}
	c.AwaitReady()
	target, err := url.Parse("http://" + c.Agents[0].IP + ":8500")
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/exec/") {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer old.Close()
	through := []string{"-http-addr=" + old.URL}
	output := startExec(c.Agents[0], append(through, "-node=1", "-wait=1s", "echo begin; sleep 4; seq 1 3000")...).want(0, all(api.ExecOK, "n1"))
	if lines := strings.Fields(output["n1"]); len(lines) != 3001 || lines[0] != "begin" || lines[3000] != "3000" {
		t.Errorf("%d lines", len(lines))
	}
	startExec(c.Agents[0], append(through, "exit 3")...).want(2, map[string]string{"n1": api.ExecFailed, "n2": api.ExecLost, "n3": api.ExecLost})
	for _, a := range []*agent{c.Agents[0], c.Agents[1]} {
		keys, _, err := a.KVKeys(t.Context(), "_rexec", "", nil)
		if sessions, _, err2 := a.SessionList(t.Context(), nil); err != nil || err2 != nil || len(keys)+len(sessions) > 0 {
			t.Errorf("left are %v and %v, %v, %v", keys, sessions, err, err2)
		}
	}
}

// A node that hangs while it runs its part is lost; a later stop reaches it as soon as it
// is back, although the job has ended long ago.
func TestExecStopReachesALostNode(t *testing.T) {
	c := harness.Start(t, 1, 1, remoteExec)
	dir := t.TempDir()
	run := startExec(c.Agent("s1"), append([]string{"-node=^c"}, sh(writePid+"exec sleep 3600", dir)...)...)
	pid := pidsOf(c, dir, "c1")["c1"]
	c.Agent("c1").Pause()
	run.want(2, map[string]string{"c1": api.ExecLost})
	jobs, _, err := c.Agent("s1").ExecJobs(t.Context(), nil)
	if err != nil || len(jobs) != 1 || jobs[0].Ended.IsZero() {
		t.Fatalf("jobs are %+v, %v", jobs, err)
	}
	if err := dead(pid); err == nil {
		t.Fatal("the command did not outlive the pause")
	}
	if err := c.Agent("s1").ExecStop(t.Context(), jobs[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	c.Agent("c1").Resume()
	harness.Within(t, 30*time.Second, "its command is dead", func(context.Context) error { return dead(pid) })
	harness.Within(t, 30*time.Second, "it says so", func(ctx context.Context) error {
		job, _, err := c.Agent("s1").ExecJob(ctx, jobs[0].ID, nil)
		if err == nil && job.Targets[0].State != api.ExecStopped {
			err = fmt.Errorf("c1 is %s", job.Targets[0].State)
		}
		return err
	})
}

// A job that names a user runs as that one, in its groups and home; one that cannot be
// is refused.
func TestExecAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become another user")
	}
	const name = "nobody"
	u, err := user.Lookup(name)
	if err != nil {
		t.Skip(err)
	}
	c := harness.Start(t, 1, 0, remoteExec, fmt.Sprintf(`-hcl=job "who" {
		argv = ["sh", "-c", "id -u; id -g; id -G; echo $HOME; sleep 0 & wait"]
		user = %q
	}
	job "none" {
		argv = ["true"]
		user = "no-such-user"
	}`, name))
	output := startExec(c.Agent("s1"), "-job=who").want(0, all(api.ExecOK, "s1"))
	groups, err := u.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(output["s1"], "\n")
	if len(lines) != 5 || lines[0] != u.Uid || lines[1] != u.Gid || lines[3] != u.HomeDir {
		t.Errorf("it ran as %q, want user %+v", lines, u)
	} else if got := strings.Fields(lines[2]); !slices.Contains(got, u.Gid) || len(got) > len(groups)+1 || slices.Contains(got, "0") {
		t.Errorf("in the groups %q, want %q", got, groups)
	}
	code, states, _ := startExec(c.Agent("s1"), "-job=none").result()
	if code != 2 || states["s1"] == api.ExecOK {
		t.Errorf("as a user that is not there: code %d, %v", code, states)
	}
}

// sshKey writes a key pair as ssh-keygen does.
func sshKey(t *testing.T, dir, name string) (path, line string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return path, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " " + name
}
