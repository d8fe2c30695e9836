//go:build !linux

package proc

import (
	"os"
	"syscall"
)

// Other systems keep the weaker promise: the guard sees its supervisor's death
// and kills the child's process group, no more.

func ownExecutable() (string, error) { return os.Executable() }

func adoptOrphans() error { return nil }

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func descendants(int) []int { return nil }

func sweep(child, _ int, _ string) { _ = syscall.Kill(-child, syscall.SIGKILL) }
