package render

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/muster-dev/muster/pkg/durable"
)

const (
	defaultMode = fs.FileMode(0o644)
	dirMode     = fs.FileMode(0o755)
	modeBits    = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

	maxLinks = 40
	tempMark = ".muster-" // in staged files: .NAME.muster-RANDOM
)

// resolve follows path while it is a symbolic link. A broken link gives the path that it
// points to. Directories in the path may be links, too: they need not be resolved.
func resolve(path string) (destination, error) {
	none := destination{fd: -1}
	if path == "" {
		return none, errors.New("no destination given")
	}
	at, err := filepath.Abs(path)
	if err != nil {
		return none, err
	}
	if strings.HasSuffix(path, "/") {
		return none, errors.New("the destination is a directory, give the file's name")
	}
	for range maxLinks {
		if fd, ok := ownDescriptor(at); ok {
			return destination{path: path, stream: true, fd: fd}, nil
		}
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return destination{path: at, fd: -1}, nil
		}
		if err != nil {
			return none, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			stream, err := checkDestination(info)
			return destination{path: at, stream: stream, fd: -1}, err
		}
		target, err := os.Readlink(at)
		if err != nil {
			return none, err
		}
		if !filepath.IsAbs(target) {
			// The link's own directory may be reached through a link.
			dir, err := filepath.EvalSymlinks(filepath.Dir(at))
			if err != nil {
				return none, err
			}
			target = filepath.Join(dir, target)
		}
		at = target
	}
	return none, fmt.Errorf("more than %d symbolic links in a row", maxLinks)
}

// checkDestination reports whether a destination is a stream. A directory, a disk or a
// socket is an error.
func checkDestination(info fs.FileInfo) (stream bool, err error) {
	mode := info.Mode()
	switch {
	case mode.IsDir():
		return false, errors.New("the destination is a directory, give the file's name")
	case mode.IsRegular():
		return false, nil
	case mode&fs.ModeNamedPipe != 0, mode&fs.ModeCharDevice != 0:
		return true, nil
	default:
		return false, fmt.Errorf("the destination is neither a file nor a pipe but %s", mode.Type())
	}
}

// readPrevious reads the existing file.
func readPrevious(path string) (Previous, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Previous{UID: -1, GID: -1}, nil
	}
	if err != nil {
		return Previous{}, err
	}
	if info.Size() > MaxSize {
		return Previous{}, fmt.Errorf("the existing file has %d bytes, more than the limit of %d MiB", info.Size(), MaxSize>>20)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Previous{}, fmt.Errorf("compare with the existing file: %w", err)
	}
	p := Previous{Existed: true, Content: content, Mode: info.Mode() & modeBits}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		p.UID, p.GID = int(st.Uid), int(st.Gid)
	}
	return p, nil
}

func wantedMode(f File, p Previous) fs.FileMode {
	switch {
	case f.Mode != 0:
		return f.Mode & modeBits
	case p.Existed:
		return p.Mode
	default:
		return defaultMode
	}
}

// ensureDir makes the destination's directory, with its parents, so that it
// survives a power cut.
func ensureDir(dir string, make bool) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !make:
		return fmt.Errorf("directory %s does not exist and create_dest_dirs is off", dir)
	}
	parent := filepath.Dir(dir)
	if err := ensureDir(parent, true); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory: %w", err)
	}
	return durable.SyncDir(parent)
}

// createTemp makes and locks the hidden file. While it is locked, a live process will
// commit or discard it: see removeStale.
func createTemp(path string) (*os.File, error) {
	dir, name := filepath.Split(path)
	// Longest file name is 255 bytes; the mark and the random part need some.
	if len(name) > 200 {
		name = name[:200]
	}
	for {
		temp := filepath.Join(dir, "."+name+tempMark+rand.Text()[:12])
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make a staged file in %s: %w", dir, withoutPath(err))
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil && sameFile(f, temp) {
			return f, nil
		} else if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			return f, nil // a file system without locks: nobody can remove it as stale either
		}
		// Another process has locked or removed it as stale before we locked it.
		os.Remove(temp)
		f.Close()
	}
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	b, err2 := os.Lstat(path)
	return err == nil && err2 == nil && os.SameFile(a, b)
}

// removeStale removes staged files of path whose process has died. It ignores errors: the
// files are hidden, and the next Stage tries again.
func removeStale(path string) {
	dir, name := filepath.Split(path)
	if len(name) > 200 {
		name = name[:200]
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		random, ours := strings.CutPrefix(entry.Name(), "."+name+tempMark)
		if !ours || len(random) != 12 || !entry.Type().IsRegular() {
			continue
		}
		removeUnlocked(filepath.Join(dir, entry.Name()))
	}
}

func removeUnlocked(temp string) {
	f, err := os.OpenFile(temp, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && sameFile(f, temp) {
		os.Remove(temp)
	}
}
