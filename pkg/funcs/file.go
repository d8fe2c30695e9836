package funcs

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/query"
)

// File is a file that a template wants beside its own output.
type File struct {
	Path        string
	User, Group string // names or numbers, "" keeps
	Mode        fs.FileMode
	Append      bool
	Content     []byte
}

func (p *pass) file(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	q, _, err := query.ParseFilter(query.KindFile, "file", path)
	if err != nil {
		return "", err
	}
	if err := inSandbox(p.opts.SandboxPath, path); err != nil {
		return "", err
	}
	text, _, err := lookup[string](p, q)
	return text, err
}

// inSandbox checks that path, links resolved, lies below the sandbox.
func inSandbox(sandbox, path string) error {
	if sandbox == "" {
		return nil
	}
	root, err := realPath(sandbox)
	if err != nil {
		return fmt.Errorf("file: resolve sandbox_path: %w", err)
	}
	real, err := realPath(path)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	rel, err := filepath.Rel(root, real)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return fmt.Errorf("'%s' is outside of sandbox", path)
	}
	return nil
}

func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// writeToFile notes a file to be written with the template's own output:
// path, user, group, perms, [flags], content.
func (p *pass) writeToFile(path, user, group, perms string, rest ...string) (string, error) {
	if len(rest) < 1 || len(rest) > 2 {
		return "", fmt.Errorf("writeToFile: wrong number of arguments, expected 5 or 6, but got %d", len(rest)+4)
	}
	if path == "" {
		return "", fmt.Errorf("writeToFile: no path given")
	}
	f := File{Path: path, User: user, Group: group}
	content := rest[len(rest)-1]
	if perms != "" {
		mode, err := strconv.ParseUint(perms, 8, 12)
		if err != nil {
			return "", fmt.Errorf("writeToFile %s: permissions %q are not an octal number such as 0644", path, perms)
		}
		f.Mode = fs.FileMode(mode & 0o777)
		for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if mode&bit != 0 {
				f.Mode |= flag
			}
		}
	}
	if len(rest) == 2 {
		for flag := range strings.SplitSeq(rest[0], ",") {
			switch strings.TrimSpace(flag) {
			case "":
			case "append":
				f.Append = true
			case "newline":
				content += "\n"
			default:
				return "", fmt.Errorf("writeToFile %s: unknown flag %q, known are append, newline", path, flag)
			}
		}
	}
	f.Content = []byte(content)
	p.files = append(p.files, f)
	return "", nil
}
