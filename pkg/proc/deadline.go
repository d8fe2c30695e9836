package proc

import (
	"fmt"
	"syscall"
	"time"
)

// Deadline is when a Child has to end: its group gets SIGTERM at Term and all
// that is left of its tree SIGKILL at Kill. Both are times of BootTime; zero is
// never.
type Deadline struct{ Term, Kill time.Duration }

// String is the form in which a guard reads it.
func (d Deadline) String() string { return fmt.Sprintf("%d:%d", int64(d.Term), int64(d.Kill)) }

// setDeadline takes the form of String. What cannot be read changes nothing.
func (g *guard) setDeadline(s string) {
	var d Deadline
	if _, err := fmt.Sscanf(s, "%d:%d", (*int64)(&d.Term), (*int64)(&d.Kill)); err != nil {
		return
	}
	g.deadline = d
	if g.alarm != nil || d != (Deadline{}) {
		g.setAlarm()
	}
}

// keepDeadline does what is due. Time is read again because an alarm may ring
// for a deadline that was put off meanwhile.
func (g *guard) keepDeadline() {
	now := BootTime()
	switch d := g.deadline; {
	case d.Kill > 0 && now >= d.Kill:
		g.killTree()
		return
	case d.Term > 0 && now >= d.Term && !g.termed:
		g.termed = true
		g.signal(syscall.SIGTERM)
	}
	g.setAlarm()
}

func (g *guard) setAlarm() {
	if g.alarm == nil {
		g.alarm = newAlarm()
	}
	next := g.deadline.Kill
	if d := g.deadline; d.Term > 0 && !g.termed && (d.Kill == 0 || d.Term < d.Kill) {
		next = d.Term
	}
	g.alarm.set(next)
}

// rings is where an alarm is heard; one that was never set never rings.
func (a *alarm) rings() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.ring
}

// pollAlarm rings all the time, for where nothing better is to be had.
func pollAlarm(ring chan<- struct{}) {
	for {
		time.Sleep(100 * time.Millisecond)
		ring <- struct{}{}
	}
}
