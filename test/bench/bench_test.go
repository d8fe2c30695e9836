package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv("MUSTER_BENCH_MAIN") != "":
		main()
	case child(os.Args[1:]):
	default:
		os.Exit(m.Run())
	}
}

// ourBin is what "make build" has built.
func ourBin(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err == nil {
		_, err = os.Stat(filepath.Join(bin, "agent"))
	}
	if err != nil {
		t.Fatalf("%v; 'make build' comes before these tests", err)
	}
	return bin
}

// Every set yields its figures; "name+" is above zero, "name=0" just that. CPU comes
// in ticks, too coarse for so short a run: TestProc looks at it.
func TestSets(t *testing.T) {
	bin := ourBin(t)
	const load = " rps+ cpu_ms p50_ms+ p99_ms+"
	want := map[string][]string{
		"fsync":     {"fsync: rps+ p50_ms+ p99_ms+"},
		"start":     {"start: usable_ms+ start_cpu_s idle_mb+ idle_cpu_percent"},
		"kv":        {"kv-put c=1:" + load, "kv-put c=10:" + load},
		"get":       {"kv-get consistency=default:" + load, "kv-get consistency=stale:" + load, "kv-get consistency=consistent:" + load},
		"health":    {"health n=10:" + load},
		"dns":       {"dns type=A n=10: answers+" + load, "dns type=SRV n=10: answers+" + load},
		"wake":      {"wake watch=key n=10: cpu_ms parked_mb+ kb_per_poll p50_ms p99_ms last_p50_ms write_p50_ms+", "wake watch=service n=10: cpu_ms last_p50_ms"},
		"quiet":     {"quiet watch=nothing write=key n=0: cpu_ms rps+"},
		"subscribe": {"subscribe keys=same n=10: kb_per_query", "subscribe keys=own n=10: kb_per_query"},
		"failover":  {"failover leader=killed: next_write_ms+", "failover leader=paused: next_write_ms+"},
		"tmpl":      {"tmpl n=10: first_ms+ first_cpu_s first_agent_cpu_s first_requests+ change_requests change_cpu_ms change_agent_cpu_ms change_p50_ms+ change_p99_ms+ peak_mb+"},
		"envexec":   {"envexec: first_ms+ first_cpu_s change_cpu_ms change_p50_ms+ peak_mb+"},
		"lock":      {"lock-cycle: rps+ tool_cpu_ms+ cpu_ms p50_ms+", "lock-hand-off: p50_ms+"},
		"exec":      {"exec agents=3: complete+ agents_cpu_ms p50_ms+", "exec agents=10: complete+ p50_ms+"},
		"event":     {"event by=poll agents=10: lost=0 p50_ms+ last_p50_ms+", "event by=handler agents=10: lost=0 p50_ms+ last_p50_ms+"},
	}
	for _, via := range []string{"leader", "follower"} {
		want["cluster"] = append(want["cluster"], "kv-put via="+via+" c=1:"+load, "kv-put via="+via+" c=10:"+load,
			"kv-get via="+via+" consistency=default:"+load, "kv-get via="+via+" consistency=stale:"+load)
	}
	for _, w := range []string{"key write=key", "missing-key write=key", "prefix write=key", "service write=service", "missing-service write=service", "service write=check", "services write=check"} {
		want["quiet"] = append(want["quiet"], "quiet watch="+w+" n=10: wakes_per_write=0 rps+ cpu_ms parked_mb+ write_p50_ms+")
	}
	for _, s := range sets {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			o := &options{d: 100 * time.Millisecond, rounds: 1, most: 10, sets: s.name, columns: []*column{musterColumn("muster", bin), limitColumn()}}
			results, err := measure(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(want[s.name]) == 0 {
				t.Fatal("the test does not know this set")
			}
			for _, col := range o.columns {
				for _, w := range want[s.name] {
					name, list, _ := strings.Cut(w, ":")
					if col.takes(s.name) && (col.only == "" || s.name != "quiet" || strings.Contains(name, "=key write") && !strings.Contains(name, "missing")) {
						expect(t, results, col.name, name, strings.Fields(list))
					}
				}
			}
		})
	}
}

func expect(t *testing.T, results []result, label, name string, list []string) {
	t.Helper()
	for _, r := range results {
		if r.Label != label || strings.TrimSpace(r.Bench+" "+r.Params) != name {
			continue
		}
		for _, figure := range list {
			key, above := strings.CutSuffix(figure, "+")
			key, zero := strings.CutSuffix(key, "=0")
			v, ok := r.Figures[key]
			if !ok || above && v <= 0 || zero && v != 0 {
				t.Errorf("%s: want %s in %v", name, figure, r)
			}
		}
		return
	}
	t.Errorf("%s did not yield %q: %v", label, name, results)
}

// What fails is said with what the agent said, and fails the program.
func TestFailureIsSaid(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "agent"), []byte("#!/bin/sh\necho no such disk >&2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(), "-bin="+bin, "-sets=get", "-d=10ms")
	cmd.Env = append(os.Environ(), "MUSTER_BENCH_MAIN=1", "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FAILED: get of muster") || !strings.Contains(string(out), "no such disk") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A signal ends it at once, with all that it has started.
func TestInterrupt(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(self(), "-bin="+ourBin(t), "-sets=start", "-d=1m")
	cmd.Env = append(os.Environ(), "MUSTER_BENCH_MAIN=1", "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	running := func() bool {
		names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range names {
			line, _ := os.ReadFile(name)
			if bytes.Contains(line, []byte("-data-dir="+tmp)) {
				return true
			}
		}
		return false
	}
	deadline := time.After(20 * time.Second)
	for !running() {
		select {
		case err := <-ended:
			t.Fatalf("it has ended by itself: %v", err)
		case <-deadline:
			t.Fatal("it starts no agent")
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("it goes on after a signal")
	}
	left, err := os.ReadDir(tmp)
	if running() || err != nil || len(left) > 0 {
		t.Errorf("an agent runs: %v; files: %v, %v", running(), left, err)
	}
}

// A commit is built beside the tree as it is, and no trace of that stays.
func TestBuildCommit(t *testing.T) {
	root, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	git("init", "-q")
	for _, version := range []string{"old", "new"} {
		text := fmt.Sprintf("build:\n\tmkdir bin && echo %s >bin/agent\n", version)
		if err := os.WriteFile(filepath.Join(root, "Makefile"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		git("add", ".")
		git("commit", "-qm", version)
	}
	bin, remove, err := buildCommit(t.Context(), root, "HEAD~1")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(bin, "agent")); string(b) != "old\n" {
		t.Errorf("built %q, %v", b, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := buildCommit(ctx, root, "HEAD"); err == nil {
		t.Error("it builds although it was told to stop")
	}
	remove()
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 || strings.Count(git("worktree", "list"), "\n") != 1 {
		t.Errorf("left: %v, %v, %s", left, err, git("worktree", "list"))
	}
}

// CPU and memory are those of the process.
func TestProc(t *testing.T) {
	me := pids{os.Getpid()}
	for before, t0 := me.cpu(), time.Now(); me.cpu() < before+0.05; {
		if time.Since(t0) > 20*time.Second {
			t.Fatalf("after 20 s at work %v s of CPU are counted, %v before", me.cpu(), before)
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	used := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	if got := me.cpu(); got < used-0.05 || got > used+0.5 {
		t.Errorf("%v s of CPU, the system says %v", got, used)
	}
	if rss, peak := me.rss(), me.peak(); rss < 2 || peak < rss/2 || peak > 10000 {
		t.Errorf("%v MB now, %v at most", rss, peak)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	add := func(label string, v float64) result {
		return result{Label: label, Bench: "kv-put", Params: "c=1", Figures: figures{"rps": v}}
	}
	err := table(&out, []*column{{name: "a"}, {name: "b"}, {name: "c"}}, []result{add("b", 30), add("a", 10), add("a", 12), add("a", 20), add("b", 20)})
	want := "measurement  figure  a          b               c\nkv-put c=1   rps     12 (83%)   25 (40%) x2.08  -\n"
	if err != nil || strings.Join(strings.Fields(out.String()), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
