package tmpl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/muster-dev/muster/pkg/render"
	"github.com/muster-dev/muster/pkg/watch"
)

const (
	cacheVersion = 1
	// cacheEvery is how often the cache is written at most.
	cacheEvery = 5 * time.Second
	// cachePatience is how long an agent has to answer before the cache is used.
	cachePatience = time.Second
)

// cache keeps the last good data on disk. It is read only at the start, and used
// only while no agent has given any answer.
type cache struct {
	path    string // "": none
	old     map[watch.Query]watch.Result
	savedAt time.Time
	dirty   bool
	due     time.Time // when to save, or to use what is old
	said    string
}

// cacheContent is the file.
type cacheContent struct {
	Version int
	Saved   time.Time
	Results []cachedResult
}

type cachedResult struct {
	Path, Params string
	Index        uint64
	Body         json.RawMessage // null: absent
}

// load reads the file; one that cannot be read is as good as none.
func (c *cache) load(now time.Time) error {
	if c.path == "" {
		return nil
	}
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var content cacheContent
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err == nil && content.Version != cacheVersion {
		err = fmt.Errorf("its version is %d, not %d", content.Version, cacheVersion)
	}
	if err != nil {
		return fmt.Errorf("read cache %s: %w", c.path, err)
	}
	old := map[watch.Query]watch.Result{}
	for _, r := range content.Results {
		q := watch.Query{Path: r.Path, Params: r.Params}
		result, err := watch.Restored(q, r.Body, r.Index)
		if err != nil {
			return fmt.Errorf("read cache %s: %w", c.path, err)
		}
		old[q] = result
	}
	c.old, c.savedAt, c.due = old, content.Saved, now.Add(cachePatience)
	return nil
}

// save writes what is known.
func (c *cache) save(ctx context.Context, data map[watch.Query]watch.Result, now time.Time) error {
	content := cacheContent{Version: cacheVersion, Saved: now.UTC()}
	for q, r := range data {
		body, err := r.Body()
		if err != nil {
			return fmt.Errorf("write cache %s: %s: %w", c.path, q, err)
		}
		content.Results = append(content.Results, cachedResult{q.Path, q.Params, r.Index, body})
	}
	text, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("write cache %s: %w", c.path, err)
	}
	if _, err := render.Write(ctx, render.File{Path: c.path, Content: text, Mode: 0o600}, render.Check{}); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// changed notes new data from an agent: what is old is not needed any more.
func (c *cache) changed(now time.Time) {
	c.old = nil
	if c.path != "" && !c.dirty {
		c.dirty, c.due = true, now.Add(cacheEvery)
	}
}

// wakeAt is when there is something to do; zero: never.
func (c *cache) wakeAt() time.Time {
	if c.dirty || c.old != nil {
		return c.due
	}
	return time.Time{}
}

// beginCache reads the cache. Once asks for what is true now, and Dry leaves no
// traces.
func (e *engine) beginCache() {
	if e.cfg.Dry {
		e.cache.path = ""
	}
	if err := e.cache.load(time.Now()); err != nil {
		e.log.Warn("cannot use the data kept on disk", "error", err)
	}
	if e.cfg.Once {
		e.cache.old = nil
	}
}

// tendCache saves what is due, or answers from what is old while no agent does.
// It returns the units that may be rendered now.
func (e *engine) tendCache(ctx context.Context, now time.Time) []*unit {
	c := e.cache
	switch {
	case c.wakeAt().IsZero() || now.Before(c.due):
		return nil
	case c.dirty:
		c.dirty = false
		if !e.complete {
			c.dirty, c.due = true, now.Add(cacheEvery) // half of it is no use
			return nil
		}
		if err := c.save(ctx, e.data, now); err != nil && c.said != err.Error() {
			c.said = err.Error()
			e.log.Warn("cannot keep the data for a start without an agent", "error", err)
		}
		return nil
	}
	c.due = now.Add(cachePatience)
	if len(e.watcher.Failing()) == 0 {
		return nil // it is slow, but there
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
			if r, ok := e.cache.old[q]; ok {
				e.data[q] = r
				concerned[u] = true
			}
		}
	}
	if len(concerned) > 0 {
		e.cache.due = time.Now() // for what they ask for next
		e.notices.say("no agent answers: rendering from the data kept on disk, saved " + e.cache.savedAt.Format(time.RFC3339))
	}
	return e.unitsWith(func(u *unit) bool { return concerned[u] })
}

// lastSave is at the end.
func (e *engine) lastSave() {
	if e.cache.dirty && e.complete {
		if err := e.cache.save(context.Background(), e.data, time.Now()); err != nil {
			e.log.Warn("cannot keep the data for a start without an agent", "error", err)
		}
	}
}
