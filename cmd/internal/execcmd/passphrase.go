package execcmd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// passphrase asks on the terminal for the passphrase of a key.
func passphrase(key string) func() ([]byte, error) {
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
			return nil, err
		}
		quiet := *before
		quiet.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(fd, setTermios, &quiet); err != nil {
			return nil, err
		}
		defer func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }()
		var line strings.Builder
		for buf := make([]byte, 1); ; {
			n, err := tty.Read(buf)
			if err != nil || n == 0 || buf[0] == '\n' || line.Len() > 1024 {
				_, _ = fmt.Fprintln(tty)
				return []byte(line.String()), err
			}
			line.Write(buf)
		}
	}
}
