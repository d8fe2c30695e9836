//go:build !linux

package guard

import "errors"

// forkForeground is for Linux only; nobody orders it elsewhere.
func forkForeground(Order) (int, error) { return 0, errors.ErrUnsupported }
