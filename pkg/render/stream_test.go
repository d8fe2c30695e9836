package render

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// put writes to path as tmpl does.
func put(t *testing.T, path, content, check string) (Result, error) {
	t.Helper()
	c := Check{}
	if check != "" {
		c.Command = []string{check}
	}
	return Write(t.Context(), File{Path: path, Content: []byte(content)}, c)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A descriptor of our own is written to, whatever is behind it and through however many
// links: a file there keeps its identity, for it is what somebody else has opened.
func TestOwnDescriptors(t *testing.T) {
	dir := t.TempDir()
	file, err := os.OpenFile(filepath.Join(dir, "file"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("before\n"); err != nil {
		t.Fatal(err)
	}
	before, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(fmt.Sprintf("/dev/fd/%d", file.Fd()), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())} {
		if !IsStream(path) {
			t.Errorf("%s is no stream", path)
		}
		if res, err := put(t, path, "line\n", ""); err != nil || !res.Changed {
			t.Fatalf("%s: %+v, %v", path, res, err)
		}
	}
	if got := readFile(t, file.Name()); got != "before\nline\nline\nline\n" {
		t.Errorf("it holds %q", got)
	}
	if after, err := os.Stat(file.Name()); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was replaced: %v", err)
	}
	if _, err := put(t, "/dev/fd/98765", "x", ""); err == nil || !strings.Contains(err.Error(), "descriptor 98765 is not open") {
		t.Errorf("a descriptor that is not open: %v", err)
	}
}

// A descriptor that is a socket cannot be opened by its name.
func TestSocketAsDescriptor(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if _, err := put(t, fmt.Sprintf("/dev/fd/%d", fds[0]), "hello\n", ""); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	if n, err := unix.Read(fds[1], got); err != nil || string(got[:n]) != "hello\n" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

func TestNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := put(t, path, "lost", ""); err == nil || !strings.Contains(err.Error(), "nobody reads the pipe") {
		t.Errorf("without a reader: %v", err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var refusal *CheckError
	if _, err := put(t, path, "bad\n", "! grep -q bad {path}"); !errors.As(err, &refusal) {
		t.Errorf("what the check refuses: %v", err)
	}
	if _, err := put(t, path, "good\n", "! grep -q bad {path}"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(reader).ReadString('\n'); line != "good\n" {
		t.Errorf("read %q, %v", line, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe was replaced: %v, %v", info.Mode(), err)
	}
}

func TestDevicesAndSockets(t *testing.T) {
	if _, err := put(t, "/dev/null", "x", ""); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat("/dev/null"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Fatalf("/dev/null is %v, %v", info.Mode(), err)
	}
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := put(t, path, "x", ""); err == nil || !strings.Contains(err.Error(), "neither a file nor a pipe") {
		t.Errorf("a socket: %v", err)
	}
}

// A check that could not run is no refusal.
func TestCheckThatCannotRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for check, judged := range map[string]bool{
		"exit 1 #":                true,
		"exit 255 #":              true,
		"no-such-program {path}":  false,
		"/dev/null {path}":        false, // cannot be executed
		"kill -9 $$ #":            false,
		"sh -c 'no-such-program'": false,
	} {
		var refusal *CheckError
		if _, err := put(t, path, "x", check); err == nil || errors.As(err, &refusal) != judged {
			t.Errorf("%s: judged %v: %v", check, !judged, err)
		}
	}
}

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "log")
	for _, line := range []string{"one\n", "two\n"} {
		if res, err := Append(File{Path: path, Content: []byte(line), Mode: 0o640}); err != nil || !res.Changed {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if got := readFile(t, path); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	wantMode(t, path, 0o640)
	for tail, want := range map[string]bool{"two\n": true, "one\ntwo\n": true, "one\n": false, "longer than all of it\n": false} {
		if EndsWith(path, []byte(tail)) != want {
			t.Errorf("it ends with %q: %v", tail, !want)
		}
	}
	if _, err := Append(File{Path: filepath.Dir(path), Content: []byte("x")}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

// On a full disk half of a line would be repeated by the next attempt.
func TestAppendAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(dir, "log")
	if _, err := Append(File{Path: path, Content: []byte("first\n")}); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(File{Path: path, Content: make([]byte, 64<<10)}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("no full disk: %v", err)
	}
	if got := readFile(t, path); got != "first\n" {
		t.Errorf("%d bytes stay", len(got))
	}
}
