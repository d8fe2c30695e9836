package tmpl

import (
	"fmt"
	"os"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// paceOf is the pace of a unit. The first files, and those of Once, are not
// waited for.
func (e *engine) paceOf(u *unit) watch.Pace {
	if !e.complete || e.cfg.Once {
		return watch.Pace{}
	}
	p := watch.Pace{Wait: e.waitOf(u), Interval: e.cfg.MinInterval, Jitter: watch.NodeJitter(e.cfg.Jitter)}
	if u.MinInterval > 0 {
		p.Interval = u.MinInterval
	}
	return p
}

// schedule says when the output of a pass is written.
func (u *unit) schedule(p watch.Pace, now time.Time) {
	if u.since.IsZero() {
		u.since = now
	}
	u.due = p.Due(u.since, now, u.replacedAt)
}

// items is how many things the look-ups of a unit hold together.
func (e *engine) items(u *unit) int {
	n := 0
	for q := range u.queries {
		n += e.set.Results[q].Items
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
	u.pass = passFailed
	u.transition(eventFailed)
	if u.trouble(why) {
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
