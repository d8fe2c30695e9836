package render

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// streamTimeout is how long the pipe of a slow reader may stay full.
const streamTimeout = 10 * time.Second

// ErrReaderGone says that the reader of a descriptor of our own (/dev/stdout) has gone for
// good. A named pipe may get another reader.
var ErrReaderGone = errors.New("its reader has gone")

// destination is a path after its links are followed.
type destination struct {
	path string
	// stream says that there is nothing to compare with or to replace: the content is
	// written to a pipe, a terminal or another character device. A descriptor of our own
	// (/dev/stdout) is a stream even if it is a regular file: whoever opened it for us
	// reads that file, not another one of the same name.
	stream bool
	fd     int // of our own; -1: none
}

// IsStream reports whether content is written to path as it is, instead of replacing
// a file: see Stage. It is false where stat fails.
func IsStream(path string) bool {
	d, err := resolve(path)
	return err == nil && d.stream
}

// ownDescriptor is the number of our own descriptor that a path names (/dev/fd/3).
func ownDescriptor(path string) (fd int, ok bool) {
	dir, name := filepath.Split(path)
	switch filepath.Clean(dir) {
	case "/dev/fd", "/proc/self/fd", "/proc/thread-self/fd", fmt.Sprintf("/proc/%d/fd", os.Getpid()):
	default:
		return 0, false
	}
	fd, err := strconv.Atoi(name)
	return fd, err == nil && fd >= 0 && !strings.HasPrefix(name, "+")
}

// send writes content to a stream.
func (d destination) send(content []byte) error {
	f, err := d.open()
	if err != nil {
		return err
	}
	_ = f.SetWriteDeadline(time.Now().Add(streamTimeout)) // a terminal or a file has none
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("its reader has not read for %s", streamTimeout)
	case d.fd >= 0 && errors.Is(err, unix.EPIPE):
		return fmt.Errorf("%w: %w", ErrReaderGone, err)
	}
	return err
}

func (d destination) open() (*os.File, error) {
	if d.fd >= 0 {
		// Not opened by its name: that fails for a socket, and begins a file anew.
		fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d is not open: %w", d.fd, err)
		}
		return os.NewFile(uintptr(fd), d.path), nil
	}
	// Without O_NONBLOCK a pipe that nobody reads would hold us for ever.
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, errors.New("nobody reads the pipe")
	}
	return f, err
}
