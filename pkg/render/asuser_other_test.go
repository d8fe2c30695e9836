//go:build !linux

package render

import (
	"errors"
	"testing"
)

func asNobody(t *testing.T, _ func() error) error {
	t.Helper()
	t.Skip("needs Linux")
	return nil
}

func bindMount(string, string) error { return errors.ErrUnsupported }
