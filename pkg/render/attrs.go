package render

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// writeStaged writes a staged file, then sets its owner, attributes and mode, in this order:
// a change of owner clears bits of the mode, and an access list changes it.
func writeStaged(temp *os.File, content []byte, p Previous, path string, uid, gid int, mode fs.FileMode) error {
	if _, err := temp.Write(content); err != nil {
		return fmt.Errorf("stage: %w", withoutPath(err))
	}
	if err := chown(temp, uid, gid); err != nil {
		return err
	}
	if p.Existed {
		if err := copyAttrs(temp, path); err != nil {
			return err
		}
	}
	if err := temp.Chmod(mode); err != nil {
		return fmt.Errorf("set mode %v: %w", mode, withoutPath(err))
	}
	if err := temp.Sync(); err != nil {
		return fmt.Errorf("stage: %w", withoutPath(err))
	}
	return nil
}

// withoutPath removes the name of the staged file from an error: that name differs at
// each attempt, and the same error would look like a new one.
func withoutPath(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

// owner returns the ids that the file must have; -1 for an id that it has as a new file.
func owner(f File, p Previous) (uid, gid int, err error) {
	uid, gid = p.UID, p.GID
	if f.User != "" {
		if uid, err = id(f.User, "user", func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}); err != nil {
			return 0, 0, err
		}
	}
	if f.Group != "" {
		if gid, err = id(f.Group, "group", func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

func id(text, what string, lookup func(string) (string, error)) (int, error) {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 {
		return n, nil
	}
	found, err := lookup(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q: %w", what, text, err)
	}
	n, err := strconv.Atoi(found)
	if err != nil {
		return 0, fmt.Errorf("%s %q: id %q: %w", what, text, found, err)
	}
	return n, nil
}

// chown changes only what differs, so that it needs no privilege where nothing
// does.
func chown(temp *os.File, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(temp.Fd()), &st); err != nil {
		return err
	}
	if uid == int(st.Uid) {
		uid = -1
	}
	if gid == int(st.Gid) {
		gid = -1
	}
	if uid == -1 && gid == -1 {
		return nil
	}
	if err := temp.Chown(uid, gid); err != nil {
		var hint string
		if errors.Is(err, fs.ErrPermission) {
			hint = " (only root may give files away: run as root, or as their owner)"
		}
		return fmt.Errorf("set owner %d:%d: %w%s", uid, gid, withoutPath(err), hint)
	}
	return nil
}

// copyAttrs copies extended attributes: access lists, labels, those of users. It omits
// signatures of the old content.
func copyAttrs(temp *os.File, path string) error {
	size, err := unix.Listxattr(path, nil)
	if err != nil || size == 0 {
		return nil // the file system has none
	}
	list := make([]byte, size)
	if size, err = unix.Listxattr(path, list); err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:size]), "\x00"), "\x00") {
		switch name {
		case "", "security.capability", "security.ima", "security.evm":
			continue
		}
		value := make([]byte, 64<<10) // the kernel's limit
		n, err := unix.Getxattr(path, name, value)
		if err != nil {
			continue
		}
		err = unix.Fsetxattr(int(temp.Fd()), name, value[:n], 0)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("keep extended attribute %s: %w", name, err)
		}
	}
	return nil
}
