//go:build !linux

package proc

import "github.com/muster-dev/muster/pkg/proc/guard"

// terminal is for Linux only: elsewhere a child has none.
type terminal struct{}

func atTerminal() *terminal { return nil }

func (*terminal) close()       {}
func (*terminal) takeBack(int) {}

func (*Child) attend() (stop func()) { return func() {} }
func (*Child) stopped()              {}

func (*Guard) place(*guard.Order) {}
