package settings

import (
	"errors"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/watch"
)

// quiescence is the block form of wait.
type quiescence struct {
	Enabled *bool         `conf:"enabled"`
	Min     time.Duration `conf:"min"`
	Max     time.Duration `conf:"max"`
}

// ParseWait reads "min:max", or a block; nil if v is.
func ParseWait(v any) (*watch.Wait, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		w, err := watch.ParseWait(v)
		return &w, err
	}
	// Fit makes one object of the blocks of several files.
	var holder struct {
		Wait quiescence `conf:"wait"`
	}
	fitted, err := conf.Check("wait", map[string]any{"wait": v}, holder)
	if err != nil {
		return nil, err
	}
	if err := conf.Decode(fitted.Map, &holder); err != nil {
		return nil, err
	}
	q := holder.Wait
	switch {
	case q.Enabled != nil && !*q.Enabled:
		return &watch.Wait{}, nil
	case q.Min < 0 || q.Max < 0:
		return nil, errors.New("a duration below zero")
	case q.Max != 0 && q.Max < q.Min:
		return nil, fmt.Errorf("the longest wait %s is below the shortest %s", q.Max, q.Min)
	}
	return &watch.Wait{Min: q.Min, Max: q.Max}, nil
}
