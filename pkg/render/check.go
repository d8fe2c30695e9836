package render

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/proc"
)

// checkTimeout is how long a check may run unless it says otherwise.
const checkTimeout = 30 * time.Second

// Check is a command that must accept a staged file.
type Check struct {
	// Command is argv, or one string with blanks for the shell; {path} stands
	// for the staged file. Empty: everything is accepted.
	Command []string
	Shell   *bool         // overrides whether the shell runs it
	Env     []string      // nil: our own
	Timeout time.Duration // 0: 30 s
}

// CheckError says that a check refused a file.
type CheckError struct {
	Path    string // the destination, which is as it was
	Command string
	Code    int
	Output  string
}

func (e *CheckError) Error() string {
	text := fmt.Sprintf("check of %s failed, it is kept as it was: %s: exit code %d", e.Path, e.Command, e.Code)
	if e.Output != "" {
		text += ": " + e.Output
	}
	return text
}

// Check runs c on the staged file. The error is a *CheckError if the check refuses the
// file, another one if the check did not run to its end. If nothing changes it does
// nothing.
func (s *Staged) Check(ctx context.Context, c Check) error {
	if !s.changed || len(c.Command) == 0 {
		return nil
	}
	if err := s.stageStream(); err != nil {
		return fmt.Errorf("check of %s: %w", s.path, err)
	}
	shown := strings.Join(c.Command, " ")
	argv, _, err := proc.Resolve(c.Command, c.Shell)
	if err != nil {
		return fmt.Errorf("check of %s: %w", s.path, err)
	}
	path := s.temp.Name()
	if len(argv) == 3 && argv[0] == "sh" && argv[1] == "-c" {
		path = shellWord(path)
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "{path}", path)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = checkTimeout
	}
	res, err := proc.Command{Argv: argv, Env: c.Env, Timeout: timeout}.Run(ctx)
	output := string(bytes.TrimSpace(res.Output))
	if err != nil {
		return fmt.Errorf("check of %s: %w, after %q", s.path, err, output)
	}
	switch {
	case res.Code == 0:
		return nil
	case !ranToEnd(res.Code):
		return fmt.Errorf("check of %s could not run to its end: %s: exit code %d, %q", s.path, shown, res.Code, output)
	}
	return &CheckError{Path: s.path, Command: shown, Code: res.Code, Output: output}
}

// The exit codes by which a shell, or package proc, says that a command was not found,
// could not be executed, or was ended by a signal (128 + N).
const (
	codeNotExecutable = 126
	codeNotFound      = 127
	codeSignalled     = 128
	lastSignal        = 64
)

// ranToEnd reports whether a check with this exit code has run to its end, so that its
// answer counts.
func ranToEnd(code int) bool {
	signalled := code > codeSignalled && code <= codeSignalled+lastSignal
	return code != codeNotExecutable && code != codeNotFound && !signalled
}

// stageStream writes the content for a stream to a temporary file, for the check to read.
func (s *Staged) stageStream() error {
	if !s.to.stream || s.temp != nil {
		return nil
	}
	temp, err := createTemp(filepath.Join(os.TempDir(), filepath.Base(s.path)))
	if err != nil {
		return err
	}
	s.temp = temp
	_, err = temp.Write(s.content)
	return err
}

// shellWord quotes a path for the shell, if it needs that.
func shellWord(path string) string {
	plain := strings.IndexFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,=", r))
	}) < 0
	if plain {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
