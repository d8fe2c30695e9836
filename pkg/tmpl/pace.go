package tmpl

import (
	"fmt"
	"hash/fnv"
	"os"
	"time"
)

// pace is when a change may be written.
type pace struct {
	Wait
	jitter   time.Duration // this node's share
	interval time.Duration
}

// paceOf is the pace of a unit. The first files, and those of Once, are not
// waited for.
func (e *engine) paceOf(u *unit) pace {
	if !e.complete || e.cfg.Once {
		return pace{}
	}
	p := pace{Wait: e.waitOf(u), interval: e.cfg.MinInterval}
	if u.MinInterval > 0 {
		p.interval = u.MinInterval
	}
	if e.cfg.Jitter > 0 {
		p.jitter = share(e.cfg.Jitter)
	}
	return p
}

// share is a part of most that is always the same on one node, and evenly spread
// over many.
func share(most time.Duration) time.Duration {
	name, err := os.Hostname()
	if err != nil {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	const steps = 1 << 16
	return most / steps * time.Duration(h.Sum64()*0x9e3779b97f4a7c15>>48)
}

// schedule says when the output of a pass is written: when nothing has changed
// for Min, at the latest Max after the first change, not before this node's turn
// nor too soon after the last time.
func (u *unit) schedule(p pace, now time.Time) {
	if u.since.IsZero() {
		u.since = now
	}
	u.due = now
	later := func(t time.Time) {
		if t.After(u.due) {
			u.due = t
		}
	}
	if p.Min > 0 {
		u.due = now.Add(p.Min)
		if last := u.since.Add(p.Max); u.due.After(last) {
			u.due = last
		}
	}
	later(u.since.Add(p.jitter))
	if p.interval > 0 && !u.replacedAt.IsZero() {
		later(u.replacedAt.Add(p.interval))
	}
}

// items is how many things the look-ups of a unit hold together.
func (e *engine) items(u *unit) int {
	n := 0
	for q := range u.queries {
		n += e.data[q].Items
	}
	return n
}

// guard says why what a unit shows is not to be believed; "": it is.
func (e *engine) guard(u *unit) string {
	n := e.items(u)
	switch {
	case n < u.MinItems:
		return fmt.Sprintf("it would show %d things, less than min_items %d", n, u.MinItems)
	case u.MaxShrink > 0 && u.items > 0 && 100*n < u.items*(100-u.MaxShrink):
		return fmt.Sprintf("it would show %d things instead of %d, a loss of more than max_shrink %d%%", n, u.items, u.MaxShrink)
	}
	return ""
}

// withheld keeps the last good file.
func (e *engine) withheld(u *unit, why string) error {
	if u.news(why) {
		e.log.Error("withheld, keeping the last good file; new data, or a reload where the loss is meant, will replace it",
			"template", u.Source, "file", u.Destination, "reason", why)
	}
	return nil
}

// sourceStat is what tells one state of a template's file from another.
type sourceStat struct {
	size    int64
	changed time.Time
}

func statSource(path string) sourceStat {
	info, err := os.Stat(path)
	if err != nil {
		return sourceStat{}
	}
	return sourceStat{info.Size(), info.ModTime()}
}

// sourceChanged reads a template again whose file has changed, and says whether
// its text has. One that cannot be parsed leaves the one before in place.
func (e *engine) sourceChanged(u *unit) bool {
	if u.Contents != "" {
		return false
	}
	now := statSource(u.Source)
	if now == u.stat || now == (sourceStat{}) {
		return false
	}
	u.stat = now
	changed, err := u.read(e.spew())
	if err != nil {
		e.log.Error("cannot use the template, keeping the one before", "template", u.Source, "error", err)
		return false
	}
	if changed {
		e.log.Info("template has changed", "template", u.Source)
	}
	return changed
}
