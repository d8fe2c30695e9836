//go:build !linux

package guard

import "syscall"

// Other systems keep the weaker promise: the guard sees its supervisor's death
// and kills the child's process group, no more.

func adoptOrphans() error { return nil }

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func descendants(int) []int { return nil }
