package harness

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo-terminal at which a program of a folder runs, usually a shell,
// and at which the test types.
type Terminal struct {
	*Process
	f    *Folder
	side *os.File // ours

	mu   sync.Mutex
	text strings.Builder
}

// Terminal starts a program at a terminal of its own, in a session of its own.
func (f *Folder) Terminal(name string, args ...string) *Terminal {
	f.T.Helper()
	ours, theirs, err := openTerminal()
	if err != nil {
		f.T.Skip("no pseudo-terminals: ", err)
	}
	defer theirs.Close()
	cmd := f.command(f.T.Context(), name, args)
	cmd.Env = append(cmd.Env, "TERM=dumb") // nothing between the lines that are shown
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	t := &Terminal{f: f, side: ours, Process: begin(f.T, cmd)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for buf := make([]byte, 4096); ; {
			n, err := ours.Read(buf)
			t.mu.Lock()
			t.text.Write(buf[:n])
			t.mu.Unlock()
			if err != nil { // nobody is at the other end any more
				return
			}
		}
	}()
	f.T.Cleanup(func() {
		t.Kill()
		f.KillLeft()
		<-read
		ours.Close()
		if f.T.Failed() {
			f.T.Logf("-- at the terminal of %s\n%s", name, t.Text())
		}
	})
	return t
}

// openTerminal makes a pseudo-terminal; the program is to have the second end.
func openTerminal() (ours, theirs *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	number := 0
	err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	if err == nil {
		number, err = unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		ours.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Text is all that was shown so far.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// Type types a text; "\x03" is Ctrl-C, "\x1a" Ctrl-Z.
func (t *Terminal) Type(text string) {
	t.f.T.Helper()
	if _, err := t.side.WriteString(text); err != nil {
		t.f.T.Fatal(err)
	}
}

// AwaitText waits until a text was shown n times.
func (t *Terminal) AwaitText(text string, n int) {
	t.f.T.Helper()
	Until(t.f.T, fmt.Sprintf("%q is shown", text), func(context.Context) error {
		if got := strings.Count(t.Text(), text); got < n {
			return fmt.Errorf("%d times of %d", got, n)
		}
		return nil
	})
}

// Echoes reports whether the terminal echoes its input.
func (t *Terminal) Echoes() bool {
	t.f.T.Helper()
	is, err := unix.IoctlGetTermios(int(t.side.Fd()), unix.TCGETS)
	if err != nil {
		t.f.T.Fatal(err)
	}
	return is.Lflag&unix.ECHO != 0
}
