//go:build !linux

package proc

import (
	"os"
	"syscall"
)

func ownExecutable() (string, error) { return os.Executable() }

func sweep(child, _ int, _ string) { _ = syscall.Kill(-child, syscall.SIGKILL) }
