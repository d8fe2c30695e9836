package render

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func stageOne(t *testing.T, f File) *Staged {
	t.Helper()
	s, err := Stage(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Discard)
	return s
}

func TestStepsOfAGroup(t *testing.T) {
	dir := t.TempDir()
	var group []*Staged
	for _, name := range []string{"a", "b", "c"} {
		s := stageOne(t, File{Path: filepath.Join(dir, name), Content: []byte(name)})
		staged, _ := filepath.Glob(filepath.Join(dir, "."+name+".*"))
		if !s.Changed() || len(staged) != 1 {
			t.Fatalf("staged as %q", staged)
		}
		wantContent(t, staged[0], name)
		group = append(group, s)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "[a-z]*")); len(found) > 0 {
		t.Errorf("there before Commit: %v", found)
	}
	for _, s := range group {
		if res, err := s.Commit(); err != nil || !res.Changed {
			t.Errorf("commit: %+v %v", res, err)
		}
		if res, err := s.Commit(); err != nil || res.Changed {
			t.Errorf("second commit: %+v %v", res, err)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		wantContent(t, filepath.Join(dir, name), name)
	}
	onlyNamed(t, dir)
}

func TestDiscard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, File{Path: path, Content: []byte("old")})
	s := stageOne(t, File{Path: path, Content: []byte("new")})
	s.Discard()
	s.Discard()
	wantContent(t, path, "old")
	onlyNamed(t, filepath.Dir(path))
}

// TestStaleFilesAreRemoved: a staged file of a killed process is removed, one of a live
// process is not, nor is a file with a similar name.
func TestStaleFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	live := stageOne(t, File{Path: path, Content: []byte("of a living process")})
	keep := []string{".f.muster-ABC", ".g.muster-ABCDEFGHIJKL", "f.muster-ABCDEFGHIJKL"}
	stale := []string{".f.muster-ABCDEFGHIJKL", ".f.muster-234567234567"}
	for _, name := range append(keep, stale...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := stageOne(t, File{Path: path, Content: []byte("second")})
	for _, name := range stale {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	for _, name := range keep {
		wantContent(t, filepath.Join(dir, name), "half")
	}
	if _, err := second.Commit(); err != nil {
		t.Error(err)
	}
	if _, err := live.Commit(); err != nil {
		t.Errorf("the other's file was taken away: %v", err)
	}
	wantContent(t, path, "of a living process")
}

func TestLongName(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 255))
	write(t, File{Path: path, Content: []byte("x")})
	wantContent(t, path, "x")
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		check Check
		want  string // part of the error, "" for success
	}{
		"none":          {Check{}, ""},
		"argv":          {Check{Command: []string{"grep", "-q", "^new$", "{path}"}}, ""},
		"shell":         {Check{Command: []string{"grep -q '^new$' {path}"}}, ""},
		"within a word": {Check{Command: []string{"test", "f={path}", "!=", "f={pa"}}, ""},
		"environment":   {Check{Command: []string{`test "$A" = b`}, Env: []string{"A=b"}}, ""},
		"refused":       {Check{Command: []string{"echo line 3 is bad >&2; exit 7"}}, "exit code 7: line 3 is bad"},
		"argv refused":  {Check{Command: []string{"grep", "-q", "^absent$", "{path}"}}, "exit code 1"},
		"not there":     {Check{Command: []string{"/no/such/checker", "{path}"}}, "no such file"},
		"too long":      {Check{Command: []string{"echo begun; sleep 60"}, Timeout: 200 * time.Millisecond}, "timed out"},
		"empty command": {Check{Command: []string{" "}}, "no command given"},
	} {
		for _, file := range []string{"f", "it's a $(file) name"} {
			t.Run(name+"/"+file, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), file)
				write(t, File{Path: path, Content: []byte("old\n")})
				res, err := Write(context.Background(), File{Path: path, Content: []byte("new\n")}, c.check)
				onlyNamed(t, filepath.Dir(path))
				if c.want == "" {
					if err != nil || !res.Changed {
						t.Errorf("%+v, %v", res, err)
					}
					wantContent(t, path, "new\n")
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				wantContent(t, path, "old\n")
			})
		}
	}
}

func TestCheckErrorIsTyped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	_, err := Write(context.Background(), File{Path: path}, Check{Command: []string{"echo no; exit 3"}})
	var refused *CheckError
	if !errors.As(err, &refused) || refused.Code != 3 || refused.Output != "no" || refused.Path != path {
		t.Errorf("error %#v", err)
	}
}

// TestMountPoint needs the right to mount.
func TestMountPoint(t *testing.T) {
	dir := t.TempDir()
	outside, path := filepath.Join(dir, "outside"), filepath.Join(dir, "hosts")
	for _, name := range []string{outside, path} {
		if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := bindMount(outside, path); err != nil {
		t.Skipf("may not mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, 0) })
	res, err := Write(context.Background(), File{Path: path, Content: []byte("newer")}, Check{})
	if err != nil || !res.Changed || !res.InPlace {
		t.Fatalf("%+v, %v", res, err)
	}
	wantContent(t, path, "newer")
	wantContent(t, outside, "newer")
	if done, err := res.Restore(); !done || err != nil {
		t.Fatalf("restored %v, %v", done, err)
	}
	wantContent(t, path, "old")
	onlyNamed(t, dir)
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	first, err := Write(context.Background(), File{Path: path, Content: []byte("1"), Mode: 0o600}, Check{})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := first.Restore(); done || err != nil { // a new file stays
		t.Fatalf("restored %v, %v", done, err)
	}
	second, err := Write(context.Background(), File{Path: path, Content: []byte("2"), Mode: 0o644}, Check{})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := second.Restore(); !done || err != nil {
		t.Fatalf("restored %v, %v", done, err)
	}
	wantContent(t, path, "1")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	onlyNamed(t, dir)
}
