package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// SurviveSIGPIPE keeps the process alive when the reader of its standard output or error
// has gone: a write fails with EPIPE, instead of ending the process by SIGPIPE. It is for
// programs whose output is a log; one that only prints should end. Children have the
// signal's default effect.
func SurviveSIGPIPE() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // nobody needs to receive it
}

// ExitOnEPIPE ends the process as SIGPIPE would have, if err is EPIPE. It is for output
// that is the program's purpose, after SurviveSIGPIPE.
func ExitOnEPIPE(err error) {
	if !errors.Is(err, syscall.EPIPE) {
		return
	}
	signal.Reset(syscall.SIGPIPE)
	// The Go runtime ends the process after such a write, not after a SIGPIPE sent by kill.
	_, _ = os.Stdout.Write([]byte{'\n'})
	os.Exit(128 + int(syscall.SIGPIPE))
}
