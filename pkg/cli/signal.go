package cli

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseSignal reads a signal's name, with or without SIG, or its number. An
// empty string is no signal: 0.
func ParseSignal(s string) (syscall.Signal, error) {
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n <= 0 || n > 64 {
			return 0, fmt.Errorf("no signal has the number %d", n)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	sig := unix.SignalNum(name)
	if sig == 0 {
		return 0, fmt.Errorf("no signal is called %q: use a name such as SIGHUP, or a number", s)
	}
	return sig, nil
}

// Unignored returns the signals without SIGHUP if that was ignored when the program
// started (nohup, a service without a terminal): it stays ignored, for children too. Call
// it before anything calls signal.Notify for SIGHUP.
func Unignored(signals ...os.Signal) (out []os.Signal) {
	for _, sig := range signals {
		if sig != syscall.SIGHUP || !signal.Ignored(sig) {
			out = append(out, sig)
		}
	}
	return out
}
