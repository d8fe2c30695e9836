// Package proc starts other programs. There are two kinds of them, and they
// owe us different things:
//
//   - A Command (a check, a template's command) runs to its end under a
//     timeout. Its process group is killed as a whole when time or the context
//     runs out; what it leaves running after it has ended by itself, in its
//     group or in another, is not ours. It never hangs on a grandchild that
//     keeps the output pipe open.
//   - A Child (an exec block, the program under a lock, tmpl's -exec) runs below
//     a guard: this same binary, started again in a session of its own, or, for a
//     program that people talk to at a terminal (NewTerminalGuard), in a process
//     group of its own in the terminal's session. The guard
//     holds the other end of a socket and, when that breaks because its supervisor
//     died, even by kill -9, kills the child with everything below it. It keeps a
//     Deadline too, whether the supervisor lives, is stopped or is dead. Who runs
//     many children, or wants one to start at once, keeps a Guard.
//
// A guard never comes to main: package guard says why, and how it is fast.
//
// On Linux the guard is a subreaper, so it also finds what made a session of
// its own. On other systems it kills the child's process group only. Killing
// supervisor and guard together leaves, on Linux, the grandchildren.
package proc

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// Resolve turns a command line as a user wrote it into the argv that is run.
// Several words, or one without blanks, run directly; one string with blanks
// runs by "sh -c". A shell other than nil overrides that. A bare name that
// PATH lacks but the working directory has runs from there: then notice says
// so, for the log.
func Resolve(words []string, shell *bool) (argv []string, notice string, err error) {
	line := strings.TrimSpace(strings.Join(words, " "))
	if line == "" {
		return nil, "", fmt.Errorf("no command given")
	}
	byShell := len(words) == 1 && strings.ContainsAny(line, " \t\n")
	if shell != nil {
		byShell = *shell
	}
	if byShell {
		return []string{"sh", "-c", line}, "", nil
	}
	argv = append([]string(nil), words...)
	if len(argv) == 1 {
		argv[0] = line
	}
	name := argv[0]
	if strings.Contains(name, "/") {
		return argv, "", nil
	}
	if _, lookErr := exec.LookPath(name); lookErr == nil {
		return argv, "", nil
	}
	info, statErr := os.Stat(name)
	if statErr != nil || !info.Mode().IsRegular() {
		return argv, "", nil // starting it says what is wrong
	}
	if info.Mode()&fs.FileMode(0o111) == 0 {
		return nil, "", fmt.Errorf("run %q: PATH lacks it and ./%s is not executable: chmod +x it", name, name)
	}
	argv[0] = "./" + name
	return argv, fmt.Sprintf("PATH lacks %q: running ./%s from the working directory", name, name), nil
}

// Runnable says why a program of Resolve's cannot be started: PATH lacks it, the file is
// not there, or is no program.
func Runnable(program string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// Check says whether a command line as a user wrote it can be started now. Of one that
// a shell runs it knows only that there is a shell.
func Check(words []string, shell *bool) error {
	argv, _, err := Resolve(words, shell)
	if err != nil {
		return err
	}
	return Runnable(argv[0])
}
