//go:build !linux

package guard

import "time"

// BootTime is a clock that all processes of the machine share. Outside Linux it
// is the wall clock: whoever sets that moves deadlines.
func BootTime() time.Duration { return time.Duration(time.Now().UnixNano()) }

type bootTimer struct{ c chan struct{} }

func newBootTimer() *bootTimer {
	t := &bootTimer{c: make(chan struct{}, 1)}
	go pollTimer(t.c)
	return t
}

func (t *bootTimer) set(time.Duration) {}
