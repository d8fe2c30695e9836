package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(script string) Command { return Command{Argv: []string{"sh", "-c", script}} }

func TestCommandResults(t *testing.T) {
	for _, c := range []struct {
		script string
		code   int
		output string
	}{
		{"echo out; echo err >&2", 0, "out\nerr\n"},
		{"exit 3", 3, ""},
		{"kill -TERM $$", 128 + 15, ""},
		{"printf 0123456789abcdef; exit 1", 1, "89abcdef"},
	} {
		cmd := sh(c.script)
		cmd.MaxOutput = 8
		res, err := cmd.Run(t.Context())
		if err != nil || res.Code != c.code || string(res.Output) != c.output {
			t.Errorf("%s: %d %q %v, want %d %q", c.script, res.Code, res.Output, err, c.code, c.output)
		}
	}
}

func TestCommandSurroundings(t *testing.T) {
	dir := t.TempDir()
	cmd := sh("cat; pwd; echo $X")
	cmd.Dir, cmd.Env, cmd.Stdin = dir, []string{"X=y", "PATH=" + os.Getenv("PATH")}, []byte("in\n")
	res, err := cmd.Run(t.Context())
	if want := "in\n" + dir + "\ny\n"; err != nil || string(res.Output) != want {
		t.Errorf("%q, %v, want %q", res.Output, err, want)
	}
}

func TestCommandOutputToFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := sh("echo out; echo err >&2")
	cmd.Stdout = f
	res, err := cmd.Run(t.Context())
	data, _ := os.ReadFile(f.Name())
	if err != nil || string(res.Output) != "err\n" || string(data) != "out\n" {
		t.Errorf("captured %q, file %q, %v", res.Output, data, err)
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	_, err := Command{Argv: []string{"/no/such/program"}}.Run(t.Context())
	if err == nil || err.Error() != "fork/exec /no/such/program: no such file or directory" {
		t.Errorf("error %v", err)
	}
	if _, err := (Command{}).Run(t.Context()); err == nil {
		t.Error("ran nothing")
	}
}

func TestLargeOutputIsCounted(t *testing.T) {
	cmd := sh("head -c 3000000 /dev/zero | tr '\\0' x; printf END")
	cmd.MaxOutput = 100
	res, err := cmd.Run(t.Context())
	if err != nil || res.Total != 3000003 || len(res.Output) != 100 || !bytes.HasSuffix(res.Output, []byte("xEND")) {
		t.Errorf("total %d, kept %d, %v", res.Total, len(res.Output), err)
	}
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	cmd := sh(fmt.Sprintf("trap '' TERM; echo before; (sleep 1000 & echo $! >> %s; wait) & echo $$ >> %s; wait", file, file))
	cmd.Timeout = 300 * time.Millisecond
	start := time.Now()
	res, err := cmd.Run(t.Context())
	if !errors.Is(err, ErrTimeout) || string(res.Output) != "before\n" || res.Code != 128+9 {
		t.Errorf("%+v, %v", res, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	until(t, "the group is gone", allDead(pids(t, file, 2)))
}

func TestCancelKills(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("superseded")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := sh("sleep 1000").Run(ctx); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

// What a command leaves running is not ours, and does not keep it from ending.
func TestLeftoverIsNotWaitedForNorKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	start := time.Now()
	res, err := sh("setsid sleep 1000 & echo $! > " + file + "; echo done").Run(t.Context())
	if err != nil || res.Code != 0 || string(res.Output) != "done\n" {
		t.Errorf("%+v, %v", res, err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("waited %v for the leftover", took)
	}
	left := pids(t, file, 1)[0]
	if !alive(left) {
		t.Error("the leftover was killed")
	}
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	yes, no := true, false
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("reload-it", []byte("#!/bin/sh\necho reloaded\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("plain", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words  []string
		shell  *bool
		want   []string
		notice bool
		fails  bool
	}{
		{words: []string{"true"}, want: []string{"true"}},
		{words: []string{"echo", "a b"}, want: []string{"echo", "a b"}},
		{words: []string{"echo a | cat"}, want: []string{"sh", "-c", "echo a | cat"}},
		{words: []string{"echo a"}, shell: &no, want: []string{"echo a"}},
		{words: []string{"echo", "$X"}, shell: &yes, want: []string{"sh", "-c", "echo $X"}},
		{words: []string{"true"}, shell: &yes, want: []string{"sh", "-c", "true"}},
		{words: []string{" true "}, want: []string{"true"}},
		{words: []string{"reload-it"}, want: []string{"./reload-it"}, notice: true},
		{words: []string{"reload-it", "x"}, want: []string{"./reload-it", "x"}, notice: true},
		{words: []string{"./reload-it"}, want: []string{"./reload-it"}},
		{words: []string{"no-such-program-anywhere"}, want: []string{"no-such-program-anywhere"}},
		{words: []string{"plain"}, fails: true},
		{words: []string{" "}, fails: true},
		{words: nil, fails: true},
	} {
		got, notice, err := Resolve(c.words, c.shell)
		if !slices.Equal(got, c.want) || (notice != "") != c.notice || (err != nil) != c.fails {
			t.Errorf("Resolve(%q) = %q, %q, %v", c.words, got, notice, err)
		}
	}
	argv, _, _ := Resolve([]string{"reload-it"}, nil)
	if res, err := (Command{Argv: argv}).Run(t.Context()); err != nil || !strings.HasPrefix(string(res.Output), "reloaded") {
		t.Errorf("%q, %v", res.Output, err)
	}
}
