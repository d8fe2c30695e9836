// Package cli is what muster's command lines have in common, whatever they do:
// long flags with one dash, exit codes, the shape of an error message, the
// context that a signal ends, and the version.
//
// It knows pflag but no command: the programs in cmd/ turn flags into a configuration.
// It promises that a flag's value is kept as it is, even when it looks like a flag; that
// nothing after the first positional argument is changed, because it belongs to a child
// command; and that an error is printed as "tool: error: what, on what, why", perhaps
// with one hint, never with a stack.
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

// Error is an error with an exit code and, perhaps, a hint what to do about it. With a
// nil Err the tool ends with the code and prints nothing.
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

// Code is the exit code for err: 0 for nil, 1 for an error without one.
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

// Print prints err for people: one line, and one more if there is a hint.
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

// SignalContext returns a context that ends at the first of the signals, with an
// *Interrupt as its cause. After that the signals have their default effect again, so
// that a second one ends a process that hangs. A SIGHUP that was ignored stays ignored
// (see Unignored). Call stop when done.
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
