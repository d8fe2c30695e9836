package proc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/proc/guard"
)

func newGuardFor(t *testing.T) *Guard {
	t.Helper()
	g, err := NewGuard(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// One guard runs children one after the other: each with its own program, files and
// environment, whatever bytes are in them, and what each leaves is killed.
func TestGuardStartsOneAfterTheOther(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	odd := "two\nlines \xff start 5 5\n " + strings.Repeat("x", 100_000)
	g := newGuardFor(t)
	for _, run := range []struct {
		code int
		spec Spec
	}{
		{1, Spec{Dir: dir, Argv: []string{"sh", "-c", "echo 1 $X >>out; exit 1"}, Env: []string{"X=a"}}},
		{3, Spec{Argv: []string{"sh", "-c", tree(filepath.Join(dir, "pids"), "exit 3")}, Env: []string{"PATH=/bin:/usr/bin"}}},
		{4, Spec{Argv: []string{"sh", "-c", `cat; printf %s "$X$1" >&2; exit 4`, "", "arg\n"}, Env: []string{"X=" + odd}, Stderr: out}},
		{128 + 9, Spec{Argv: []string{"sh", "-c", "kill -KILL $$"}}},
	} {
		c, err := g.Start(run.spec)
		if err != nil {
			t.Fatal(err)
		}
		if code, err := c.Wait(t.Context()); code != run.code || err != nil {
			t.Fatalf("%d, %v; want %d", code, err, run.code)
		}
		if run.code == 1 { // it appended by itself
			if _, err := out.Seek(0, 2); err != nil {
				t.Fatal(err)
			}
		}
	}
	if data, _ := os.ReadFile(out.Name()); string(data) != "1 a\n"+odd+"arg\n" {
		t.Errorf("got %.100q", data)
	}
	if !allDead(pids(t, filepath.Join(dir, "pids"), 4))() {
		t.Error("something outlived the second child")
	}
}

func TestGuardHasOneChild(t *testing.T) {
	g := newGuardFor(t)
	c, err := g.Start(Spec{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Start(Spec{Argv: []string{"true"}}); !errors.Is(err, errBusy) {
		t.Errorf("two at once: %v", err)
	}
	g.Close()
	if alive(c.Pid()) || alive(g.pid()) {
		t.Error("it outlives its guard")
	}
	if _, err := c.Wait(t.Context()); err == nil {
		t.Error("nobody says that the child was killed")
	}
	if _, err := g.Start(Spec{Argv: []string{"true"}}); err == nil {
		t.Error("a child without a guard")
	}
}

// A child has no file of its guard's, and none of another child.
func TestGuardLeaksNoFile(t *testing.T) {
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	count := []string{"sh", "-c", "exit $(ls /proc/self/fd | wc -l)"}
	plain, err := Command{Argv: count}.Run(t.Context()) // with what we inherited ourselves
	if err != nil {
		t.Fatal(err)
	}
	g := newGuardFor(t)
	for range 3 {
		c, err := g.Start(Spec{Argv: count, Stdin: in})
		if err != nil {
			t.Fatal(err)
		}
		if code, err := c.Wait(t.Context()); code != plain.Code || err != nil {
			t.Errorf("%d files, %v; want %d", code, err, plain.Code)
		}
	}
	in.Close() // the guard has no end of it any more either
	if _, err := feed.WriteString("x"); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("somebody still has the child's stdin: %v", err)
	}
	feed.Close()
}

// A program that cannot be started does not end the guard; its own death does.
func TestGuardStartFails(t *testing.T) {
	g := newGuardFor(t)
	if _, err := g.Start(Spec{Argv: []string{"/no/such"}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
	if _, err := g.Start(Spec{Argv: []string{"true"}, Dir: "/no/such"}); err == nil || !strings.Contains(err.Error(), "chdir /no/such") {
		t.Errorf("error %v", err)
	}
	c, err := g.Start(Spec{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := c.Stop(syscall.SIGTERM, time.Minute); code != 128+15 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "a guard that is dead starts nothing", func() bool {
		_, err := g.Start(Spec{Argv: []string{"true"}})
		return err != nil
	})
}

// A Pool keeps what is idle, does not mind that somebody kills it, and leaves nothing.
func TestPool(t *testing.T) {
	p := &Pool{Max: 1}
	p.Warm()
	p.Warm()
	warm := p.idle[0]
	var running []*Child
	for range 3 {
		c, err := p.Start(Spec{Argv: []string{"sleep", "1000"}})
		if err != nil {
			t.Fatal(err)
		}
		running = append(running, c)
	}
	if running[0].guard != warm || len(p.idle) != 0 {
		t.Error("the warm guard is not used")
	}
	for _, c := range running {
		if code, err := c.Stop(syscall.SIGTERM, time.Minute); code != 128+15 || err != nil {
			t.Errorf("%d, %v", code, err)
		}
	}
	if len(p.idle) != 1 || p.idle[0] != warm || alive(running[1].guard.pid()) || alive(running[2].guard.pid()) {
		t.Errorf("%d are kept", len(p.idle))
	}
	if err := warm.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the warm guard is dead", func() bool { return !alive(warm.pid()) })
	c, err := p.Start(Spec{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if !alive(c.Pid()) {
		t.Error("the end of the pool is the child's")
	}
	if _, err := c.Stop(syscall.SIGTERM, time.Minute); err != nil {
		t.Error(err)
	}
	if len(p.idle) != 0 || alive(c.guard.pid()) {
		t.Error("a guard is left")
	}
}

// What is ordered for a child that has ended does not reach the next one.
func TestOrderForAnEarlierChild(t *testing.T) {
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer feed.Close()
	g := newGuardFor(t)
	early, err := g.Start(Spec{Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := early.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	early.done = make(chan struct{}) // as if its end had not been heard of yet
	c, err := g.Start(Spec{Argv: []string{"sh", "-c", "read line; exit 7"}, Stdin: in})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{early.Signal(syscall.SIGTERM), early.Deadline(Deadline{Kill: 1}), early.tell(guard.DoKill, "")} {
		if err != nil {
			t.Error(err)
		}
	}
	// Orders are obeyed in turn: this one comes last, and does no harm.
	if err := c.Signal(syscall.SIGCONT); err != nil {
		t.Error(err)
	}
	if _, err := feed.WriteString("go on\n"); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != 7 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
}
