package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// One guard runs children one after the other: each with its own program and
// environment, whatever bytes are in them, and what each leaves is killed.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	c := start(t, Spec{Keep: true, Dir: dir, Argv: []string{"sh", "-c", "echo 1 $X >>out; exit 1"}, Env: []string{"X=a"}})
	first := c.guard.Process.Pid
	odd := "two\nlines \xff again 5 5\n " + strings.Repeat("x", 100_000)
	for i, spec := range []Spec{
		{Argv: []string{"sh", "-c", tree(filepath.Join(dir, "pids"), "exit 3")}, Env: []string{"PATH=/bin:/usr/bin"}},
		{Argv: []string{"sh", "-c", `printf %s "$X$1" >>out; exit 4`, "", "arg\n"}, Env: []string{"X=" + odd}},
		{Argv: []string{"sh", "-c", "kill -KILL $$"}},
	} {
		code, err := c.Wait(t.Context())
		if want := []int{1, 3, 4}[i]; code != want || err != nil {
			t.Fatalf("child %d: %d, %v", i, code, err)
		}
		if c, err = c.Again(spec); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Again(spec); err == nil || !strings.Contains(err.Error(), "still runs") {
			t.Errorf("two at once: %v", err)
		}
	}
	if code, err := c.Wait(t.Context()); code != 128+9 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if data, _ := os.ReadFile(out); string(data) != "1 a\n"+odd+"arg\n" {
		t.Errorf("got %.100q", data)
	}
	if !allDead(pids(t, filepath.Join(dir, "pids"), 4))() {
		t.Error("something outlived the second child")
	}
	if c.guard.Process.Pid != first {
		t.Error("it was another guard")
	}
	c.Release()
	if alive(first) {
		t.Error("the guard outlives its release")
	}
	if _, err := c.Again(Spec{Argv: []string{"true"}}); err == nil {
		t.Error("a child without a guard")
	}
}

// A program that cannot be started does not end the guard; its own death does.
func TestAgainFails(t *testing.T) {
	c := start(t, Spec{Keep: true, Argv: []string{"true"}})
	defer c.Release()
	if _, err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Again(Spec{Argv: []string{"/no/such"}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
	next, err := c.Again(Spec{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := next.Stop(syscall.SIGTERM, time.Minute); code != 128+15 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if err := c.guard.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "a guard that is dead starts nothing", func() bool {
		_, err := next.Again(Spec{Argv: []string{"true"}})
		return err != nil
	})
}

func FuzzReadAgain(f *testing.F) {
	whole := again{"/bin/x", []string{"x", ""}, []string{"A=1\n"}}.String()
	head, body, _ := strings.Cut(strings.TrimPrefix(whole, doAgain+" "), "\n")
	f.Add(head, []byte(body))
	f.Add("-1 1", []byte{})
	f.Add("4 9", []byte("a\x00b\x00"))
	f.Fuzz(func(t *testing.T, head string, body []byte) {
		if len(head) > 8 {
			return // the size it names is made
		}
		a, ok := readAgain(head, bytes.NewReader(body))
		if !ok {
			return
		}
		line, rest, _ := strings.Cut(strings.TrimPrefix(a.String(), doAgain+" "), "\n")
		b, ok := readAgain(line, strings.NewReader(rest))
		if !ok || a.path != b.path || !slices.Equal(a.argv, b.argv) || !slices.Equal(a.env, b.env) {
			t.Errorf("%q, %q", a, b)
		}
	})
}
