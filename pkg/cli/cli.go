// Package cli is what muster's command lines have in common, whatever they do:
// long flags with one dash, exit codes, the shape of an error message, the
// context that a signal ends, and the version.
//
// It knows pflag but no command: turning flags into a command's configuration
// is the business of the mains. What it promises: a flag's value is taken
// verbatim, even when it looks like a flag itself; nothing behind the first
// positional argument is touched, because it belongs to a child command; and
// an error reads "tool: error: what, on what, why", then perhaps one hint,
// never a stack.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
)

// Exit codes of all tools. A child's own code passes through, 128 + signal
// included.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitTarget      = 2  // exec: some target failed
	ExitInterrupted = 12 // tmpl, envexec: ended by the kill signal
	ExitFlags       = 13 // tmpl, envexec: bad flags
	ExitRun         = 14 // tmpl, envexec: gave up, or a command failed
	ExitConfig      = 15 // tmpl, envexec: bad configuration
	ExitNotLocked   = 75 // lock: not acquired
	ExitLockLost    = 76 // lock: lost while the child ran
)

// Error is an error that knows its exit code and, perhaps, what to do about it.
// A nil Err ends the tool with the code and says nothing.
type Error struct {
	Code int
	Err  error
	Hint string
}

// Exit gives err an exit code.
func Exit(code int, err error) error { return &Error{Code: code, Err: err} }

// Hint gives err an exit code and a hint.
func Hint(code int, err error, hint string) error { return &Error{Code: code, Err: err, Hint: hint} }

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Code is the exit code that err stands for: 0 for nil, 1 for an error that
// carries none.
func Code(err error) int {
	if err == nil {
		return ExitOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ExitError
}

// Print tells a person about err, on one line and perhaps a second with a hint.
func Print(w io.Writer, tool string, err error) {
	var e *Error
	if err == nil || errors.As(err, &e) && e.Err == nil {
		return
	}
	text := strings.TrimRight(err.Error(), "\n")
	_, _ = fmt.Fprintf(w, "%s: %s %s\n", tool, styled(w, "1;31", "error:"), text)
	if e != nil && e.Hint != "" {
		_, _ = fmt.Fprintf(w, "%s: hint: %s\n", tool, e.Hint)
	}
}

// Interrupt is the cause of a context that a signal ended.
type Interrupt struct{ Signal os.Signal }

func (i *Interrupt) Error() string { return "got signal " + i.Signal.String() }

// SignalContext ends its context at the first of the signals, with an
// *Interrupt as the cause. After that they have their default effect again, so
// that a second one ends a process that hangs. SIGHUP that is ignored stays so
// (Unignored). Call stop when done.
func SignalContext(parent context.Context, signals ...os.Signal) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 1)
	if signals = Unignored(signals...); len(signals) > 0 { // none would be all
		signal.Notify(got, signals...)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-got:
			cancel(&Interrupt{Signal: s})
		case <-ctx.Done():
		}
		signal.Stop(got)
	}()
	return ctx, func() {
		cancel(context.Canceled)
		<-done
	}
}

// version is set by the linker: -X github.com/muster-dev/muster/pkg/cli.version=1.2.3
var version string

// Version is the version that was built in, else that of the module, else
// "0.0.0-dev".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "0.0.0-dev"
}

// Revision is the commit that was built, "" where that is not known.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
