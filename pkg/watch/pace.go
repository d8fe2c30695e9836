package watch

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"time"
)

// Wait is a quiescence timer: a change takes effect when nothing has changed for Min,
// at the latest Max after the first change. Zero: at once.
type Wait struct{ Min, Max time.Duration }

// waitFactor is Max/Min where Max is not set.
const waitFactor = 4

// WithDefaults is w with Max set.
func (w Wait) WithDefaults() Wait {
	if w.Max == 0 {
		w.Max = waitFactor * w.Min
	}
	return w
}

// ParseWait reads "min" or "min:max".
func ParseWait(s string) (Wait, error) {
	first, second, both := strings.Cut(s, ":")
	var w Wait
	var err error
	if w.Min, err = time.ParseDuration(first); err != nil {
		return Wait{}, err
	}
	if both {
		if w.Max, err = time.ParseDuration(second); err != nil {
			return Wait{}, err
		}
	}
	switch {
	case w.Min < 0 || w.Max < 0:
		return Wait{}, errors.New("a duration below zero")
	case both && w.Max < w.Min:
		return Wait{}, fmt.Errorf("the longest wait %s is below the shortest %s", w.Max, w.Min)
	}
	return w, nil
}

// Pace decides when a change takes effect.
type Pace struct {
	Wait
	Jitter   time.Duration // of this node, see NodeJitter
	Interval time.Duration // the least time between two changes that take effect
}

// Due is when changes take effect, of which the first came at since and the newest at
// now: when nothing has changed for Min, at the latest Max after the first. It is not
// before Jitter has passed, nor within Interval of last, when the last one took effect;
// last may be zero.
func (p Pace) Due(since, now, last time.Time) time.Time {
	due := now
	later := func(t time.Time) {
		if t.After(due) {
			due = t
		}
	}
	if p.Min > 0 {
		due = now.Add(p.Min)
		if end := since.Add(p.Max); due.After(end) {
			due = end
		}
	}
	later(since.Add(p.Jitter))
	if p.Interval > 0 && !last.IsZero() {
		later(last.Add(p.Interval))
	}
	return due
}

// NodeJitter is a duration below max that depends on the host's name alone: always the
// same on one node, evenly distributed over many.
func NodeJitter(max time.Duration) time.Duration {
	name, err := os.Hostname()
	if err != nil || max <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	const steps = 1 << 16
	return max / steps * time.Duration(h.Sum64()*0x9e3779b97f4a7c15>>48)
}
