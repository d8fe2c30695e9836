package tmpl

import (
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// beginCache reads the cache. Once asks for what is true now, and Dry leaves no
// traces.
func (e *engine) beginCache() {
	if e.cfg.Dry {
		e.cache = watch.NewCache(watch.CacheConfig{})
	}
	if err := e.cache.Load(time.Now()); err != nil {
		e.log.Warn("cannot use the data kept on disk", "error", err)
	}
	if e.cfg.Once {
		e.cache.Forget()
	}
}

// tendCache saves what is due, or answers from what is old while no agent does.
// It returns the units that may be rendered now.
func (e *engine) tendCache(now time.Time) []*unit {
	useOld, err := e.cache.Tend(e.data, e.complete, len(e.watcher.Failing()) > 0, now)
	if err != nil {
		e.notices.say("cannot keep the data for a start without an agent: " + err.Error())
	}
	if !useOld {
		return nil
	}
	return e.fromCache()
}

// fromCache fills in what the templates ask for, as far as it was known.
func (e *engine) fromCache() []*unit {
	concerned := map[*unit]bool{}
	for _, u := range e.units {
		for q := range u.queries {
			if _, known := e.data[q]; known {
				continue
			}
			if r, ok := e.cache.Lookup(q); ok {
				e.data[q] = r
				concerned[u] = true
			}
		}
	}
	if len(concerned) > 0 {
		savedAt := e.cache.Used()
		e.notices.say("no agent answers: rendering from the data kept on disk, saved " + savedAt.Format(time.RFC3339))
	}
	return e.unitsWith(func(u *unit) bool { return concerned[u] })
}

// lastSave is at the end, which may have come before the first command was done.
func (e *engine) lastSave() {
	if err := e.cache.Flush(e.data, e.allDone(), len(e.watcher.Failing()) > 0); err != nil {
		e.log.Warn("cannot keep the data for a start without an agent", "error", err)
	}
}
