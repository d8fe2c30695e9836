//go:build linux

package cli

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal of that width.
func openTerminal(t *testing.T, width uint16) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return tty
}

func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	tty := openTerminal(t, 100)
	if w := Width(tty); w != 100 {
		t.Errorf("width %d", w)
	}
	if !Colours(tty) || Bold(tty, "x") != "\x1b[1mx\x1b[0m" {
		t.Error("a terminal without colours")
	}
	t.Setenv("NO_COLOR", "1")
	if Colours(tty) || Bold(tty, "x") != "x" {
		t.Error("colours in spite of NO_COLOR")
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if Colours(tty) {
		t.Error("colours on a terminal that has none")
	}
}

func TestNoTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	var b bytes.Buffer
	if Width(&b) != 80 || Colours(&b) || Width((*os.File)(nil)) != 80 {
		t.Error("a buffer is taken for a terminal")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if Width(null) != 80 || Colours(null) {
		t.Error("/dev/null is taken for a terminal")
	}
	Print(&b, "tool", fmt.Errorf("no"))
	if b.String() != "tool: error: no\n" {
		t.Errorf("%q", &b)
	}
}
