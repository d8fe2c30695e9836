package render

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// write writes content to path and fails the test on an error.
func write(t *testing.T, f File) Result {
	t.Helper()
	res, err := Write(context.Background(), f, Check{})
	if err != nil {
		t.Fatal(err)
	}
	onlyNamed(t, filepath.Dir(res.Path))
	return res
}

// onlyNamed fails if a staged file was left in dir.
func onlyNamed(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, ".*"+tempMark+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("staged files left: %v %v", left, err)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode()&modeBits != want {
		t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
	}
}

func TestWriteNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "web.cfg")
	defer unix.Umask(unix.Umask(0o077)) // must not matter for the file
	res := write(t, File{Path: path, Content: []byte("one")})
	if !res.Changed || res.Previous.Existed || res.Path != path {
		t.Errorf("result %+v", res)
	}
	wantContent(t, path, "one")
	wantMode(t, path, 0o644)
}

func TestWriteMakesDirectories(t *testing.T) {
	dir := t.TempDir()
	old := unix.Umask(0o022)
	defer unix.Umask(old)
	write(t, File{Path: filepath.Join(dir, "a", "b", "c")})
	wantMode(t, filepath.Join(dir, "a"), 0o755)

	_, err := Stage(File{Path: filepath.Join(dir, "x", "c"), NoDirs: true})
	if err == nil || !strings.Contains(err.Error(), "does not exist and create_dest_dirs is off") {
		t.Errorf("NoDirs: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("NoDirs made the directory")
	}
}

func TestUnchangedIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, File{Path: path, Content: []byte("same")})
	before, _ := os.Stat(path)
	checked := Check{Command: []string{"false"}} // must not even run
	res, err := Write(context.Background(), File{Path: path, Content: []byte("same")}, checked)
	if err != nil || res.Changed || !res.Previous.Existed {
		t.Errorf("result %+v, %v", res, err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("the file was replaced")
	}
}

func TestModes(t *testing.T) {
	for name, c := range map[string]struct{ existing, asked, want fs.FileMode }{
		"new":             {0, 0, 0o644},
		"new, asked":      {0, 0o600, 0o600},
		"kept":            {0o640, 0, 0o640},
		"kept with bits":  {0o750 | fs.ModeSetgid, 0, 0o750 | fs.ModeSetgid},
		"asked wins":      {0o640, 0o444, 0o444},
		"world-writable":  {0o666, 0, 0o666},
		"owner read only": {0o400, 0, 0o400},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			if c.existing != 0 {
				if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, c.existing); err != nil {
					t.Fatal(err)
				}
			}
			write(t, File{Path: path, Content: []byte("new"), Mode: c.asked})
			wantContent(t, path, "new")
			wantMode(t, path, c.want)
		})
	}
}

func TestModeAloneIsAChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, File{Path: path, Content: []byte("x"), Mode: 0o600})
	if res := write(t, File{Path: path, Content: []byte("x"), Mode: 0o640}); !res.Changed {
		t.Error("another mode is no change")
	}
	wantMode(t, path, 0o640)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func wantOwner(t *testing.T, path string, uid, gid uint32) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}

func TestOwner(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1234, 4321); err != nil {
		t.Fatal(err)
	}
	res := write(t, File{Path: path, Content: []byte("new")})
	wantOwner(t, path, 1234, 4321)
	wantMode(t, path, 0o640)
	if p := res.Previous; p.UID != 1234 || p.GID != 4321 || p.Mode != 0o640 || string(p.Content) != "old" {
		t.Errorf("previous %+v", p)
	}

	if res := write(t, File{Path: path, Content: []byte("new"), User: "nobody", Group: "0"}); !res.Changed {
		t.Error("another owner is no change")
	}
	wantOwner(t, path, 65534, 0)
	if res := write(t, File{Path: path, Content: []byte("new"), User: "65534"}); res.Changed {
		t.Error("the same owner is a change")
	}
	if _, err := Stage(File{Path: path, User: "no-such-user"}); err == nil || !strings.Contains(err.Error(), `user "no-such-user"`) {
		t.Errorf("unknown user: %v", err)
	}
}

func TestExtendedAttributesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.muster", []byte("label"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	write(t, File{Path: path, Content: []byte("new")})
	value := make([]byte, 64)
	n, err := unix.Getxattr(path, "user.muster", value)
	if err != nil || string(value[:n]) != "label" {
		t.Errorf("attribute is %q, %v", value[:max(n, 0)], err)
	}
}

func TestBackup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"one", "two", "three"} {
		write(t, File{Path: path, Content: []byte(content), Backup: true})
	}
	wantContent(t, path, "three")
	wantContent(t, path+".bak", "two")
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 {
		t.Errorf("directory holds %v", entries)
	}
}

func TestSymbolicLinks(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	for _, sub := range []string{"real", "links"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) string {
		name = filepath.Join(dir, "links", name)
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := os.WriteFile(filepath.Join(real, "f"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ link, file string }{
		"relative": {link("../real/f", "rel"), filepath.Join(real, "f")},
		"absolute": {link(filepath.Join(real, "f"), "abs"), filepath.Join(real, "f")},
		"of links": {link("rel", "twice"), filepath.Join(real, "f")},
		"to none":  {link("../real/none", "dangling"), filepath.Join(real, "none")},
		"through":  {filepath.Join(link("../real", "dir"), "g"), filepath.Join(dir, "links", "dir", "g")},
	} {
		t.Run(name, func(t *testing.T) {
			if res := write(t, File{Path: c.link, Content: []byte(name)}); res.Path != c.file {
				t.Errorf("wrote %s, want %s", res.Path, c.file)
			}
			wantContent(t, c.file, name)
			if target, err := os.Readlink(c.link); name != "through" && err != nil {
				t.Errorf("the link is gone: %q %v", target, err)
			}
		})
	}
	wantMode(t, filepath.Join(real, "f"), 0o600)

	if _, err := Stage(File{Path: link("round", "round")}); err == nil || !strings.Contains(err.Error(), "symbolic links in a row") {
		t.Errorf("round: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	big := filepath.Join(dir, "big")
	if err := errors.Join(os.WriteFile(file, nil, 0o600),
		os.WriteFile(big, nil, 0o600), os.Truncate(big, MaxSize+1)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file File
		want string
	}{
		"none":           {File{}, "no destination given"},
		"directory":      {File{Path: dir}, "is a directory, give the file's name"},
		"slash":          {File{Path: dir + "/new/"}, "is a directory, give the file's name"},
		"below a file":   {File{Path: filepath.Join(file, "x")}, "not a directory"},
		"too large":      {File{Path: file, Content: make([]byte, MaxSize+1)}, "more than the limit of 64 MiB"},
		"large existing": {File{Path: big}, "the existing file has 67108865 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Stage(c.file)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.file.Path) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if s != nil {
				t.Error("something is staged")
			}
		})
	}
	onlyNamed(t, dir)
}

// TestUnwritableDirectory takes root's rights from the one thread it runs on.
func TestUnwritableDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err == nil && info.Mode()&0o005 != 0o005 {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Skip(err)
			}
		}
	}
	err := asNobody(t, func() error {
		_, err := Write(context.Background(), File{Path: path, Content: []byte("new")}, Check{})
		return err
	})
	if err == nil || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "make a staged file in "+dir) {
		t.Errorf("error %v", err)
	}
	wantContent(t, path, "old")
}

// TestOwnerCannotBeKept: a user who may write in the directory, but not give
// files away, replaces nothing rather than change the owner.
func TestOwnerCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err == nil && info.Mode()&0o005 != 0o005 {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Skip(err)
			}
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	err := asNobody(t, func() error {
		_, err := Write(context.Background(), File{Path: path, Content: []byte("new")}, Check{})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "only root may give files away") {
		t.Errorf("error %v", err)
	}
	wantContent(t, path, "old")
	wantOwner(t, path, 0, 0)
	onlyNamed(t, dir)
}

func TestConcurrentReadersSeeWholeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	version := func(i int) []byte { return bytes.Repeat([]byte{'a' + byte(i%26)}, 1+i*997) }
	write(t, File{Path: path, Content: version(0)})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := os.ReadFile(path)
				if err != nil || len(got) == 0 || !bytes.Equal(got, version(int(got[0]-'a'))) {
					t.Errorf("read %d bytes of a partial file, %v", len(got), err)
					return
				}
			}
		})
	}
	for i := range 26 {
		write(t, File{Path: path, Content: version(i)})
	}
	cancel()
	wg.Wait()
}
