package guard

import (
	"syscall"
	"time"
)

// Deadline is when a child has to end: its group gets SIGTERM at Term and all
// that is left of its tree SIGKILL at Kill. Both are times of BootTime; zero is
// never.
type Deadline struct{ Term, Kill time.Duration }

// String is the form in which a guard reads it.
func (d Deadline) String() string {
	return itoa(int(d.Term)) + ":" + itoa(int(d.Kill))
}

// parseDeadline takes the form of String.
func parseDeadline(s string) (Deadline, bool) {
	term, kill := cut(s, ':')
	t, ok1 := atoi(term)
	k, ok2 := atoi(kill)
	return Deadline{time.Duration(t), time.Duration(k)}, ok1 && ok2
}

func (g *guard) setDeadline(d Deadline) {
	g.deadline = d
	if g.timer != nil || d != (Deadline{}) {
		g.setAlarm()
	}
}

// keepDeadline does what is due. Time is read again because a timer may fire
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
	if g.timer == nil {
		g.timer = newBootTimer()
	}
	next := g.deadline.Kill
	if d := g.deadline; d.Term > 0 && !g.termed && (d.Kill == 0 || d.Term < d.Kill) {
		next = d.Term
	}
	g.timer.set(next)
}

// fired yields when the time has come; a timer that was never set never fires.
func (t *bootTimer) fired() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.c
}

// pollTimer rings all the time, for where nothing better is to be had.
func pollTimer(c chan<- struct{}) {
	for {
		time.Sleep(100 * time.Millisecond)
		c <- struct{}{}
	}
}
