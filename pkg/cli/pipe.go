package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// SurvivePipes lets the process live on when who reads its standard output or error is
// gone: writing there is an error (EPIPE) then, instead of the end by SIGPIPE, which a
// log is not worth. It is for programs that stay; one that only prints is to end. What
// the process starts has the signal's default again.
func SurvivePipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // nobody has to take it
}

// DieOfPipe ends the process as SIGPIPE would have, if err says that nobody reads what it
// prints: for output that is the program's purpose, in spite of SurvivePipes.
func DieOfPipe(err error) {
	if !errors.Is(err, syscall.EPIPE) {
		return
	}
	signal.Reset(syscall.SIGPIPE)
	// The runtime dies of such a write alone; a signal that is sent it ignores.
	_, _ = os.Stdout.Write([]byte{'\n'})
	os.Exit(128 + int(syscall.SIGPIPE))
}
