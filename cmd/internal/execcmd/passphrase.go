package execcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxPassphrase bounds a passphrase, in bytes.
const maxPassphrase = 1024

// passphrase asks on the terminal for the passphrase of a key, without showing it. The
// end of ctx, as by Ctrl-C, ends that too; the terminal is then as it was.
func passphrase(ctx context.Context, key string) func() ([]byte, error) {
	return func() ([]byte, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, errors.New("there is no terminal to ask on: use the ssh-agent (-sign " + key + ".pub)")
		}
		defer tty.Close()
		_, _ = fmt.Fprintf(tty, "Passphrase of %s: ", key)
		fd := int(tty.Fd())
		before, err := unix.IoctlGetTermios(fd, getTermios)
		if err != nil {
			return nil, fmt.Errorf("silence the terminal: %w", err)
		}
		quiet := *before
		quiet.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(fd, setTermios, &quiet); err != nil {
			return nil, fmt.Errorf("silence the terminal: %w", err)
		}
		defer func() {
			_ = unix.IoctlSetTermios(fd, setTermios, before)
			_, _ = fmt.Fprintln(tty)
		}()
		read := make(chan line, 1)
		go func() { read <- readLine(tty) }() // where ctx ends first it ends with the process
		select {
		case l := <-read:
			return l.text, l.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

type line struct {
	text []byte
	err  error
}

// readLine reads up to the end of a line, and no further.
func readLine(from io.Reader) (l line) {
	for buf := make([]byte, 1); len(l.text) <= maxPassphrase; {
		n, err := from.Read(buf)
		switch {
		case n == 1 && buf[0] == '\n':
			return l
		case n == 1:
			l.text = append(l.text, buf[0])
		case err != nil && !errors.Is(err, io.EOF):
			l.err = err
			return l
		case err != nil || n == 0: // Ctrl-D
			return l
		}
	}
	return l
}
