package execcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// passphrase asks on the terminal for the passphrase of a key, without echo. The end of
// ctx, as by Ctrl-C, ends the question and restores the terminal.
func passphrase(ctx context.Context, key string) func() ([]byte, error) {
	return func() ([]byte, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, errors.New("there is no terminal to ask on: use the ssh-agent (-sign " + key + ".pub)")
		}
		defer tty.Close()
		fd := int(tty.Fd())
		before, err := term.GetState(fd)
		if err != nil {
			return nil, fmt.Errorf("turn the echo of the terminal off: %w", err)
		}
		_, _ = fmt.Fprintf(tty, "Passphrase of %s: ", key)
		defer func() {
			_ = term.Restore(fd, before)
			_, _ = fmt.Fprintln(tty)
		}()
		read := make(chan error, 1)
		var line []byte
		go func() { // if ctx ends first, this ends with the process
			var err error
			if line, err = term.ReadPassword(fd); errors.Is(err, io.EOF) { // Ctrl-D
				err = nil
			}
			read <- err
		}()
		select {
		case err := <-read:
			return line, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
