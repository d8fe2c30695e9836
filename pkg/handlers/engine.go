package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// source is what requests to the agent carry. Watches with the same source share a
// Watcher.
type source struct {
	token string
	stale bool
}

// ErrNoAnswer says that the agent did not answer as many attempts as Retry allows.
var ErrNoAnswer = errors.New("no answer")

// engine follows the requests of one source and passes updates to the deliveries.
type engine struct {
	w   *watch.Watcher
	log *slog.Logger
	end context.CancelFunc

	mu     sync.Mutex // locked before the Watcher's own
	latest map[watch.Request]update
	to     map[watch.Request][]*delivery
}

// prepare makes the engines that are missing. Callers hold the Set's mu.
func (s *Set) prepare(next map[string]*worker) error {
	for _, w := range next {
		src := source{w.spec.Token, w.spec.Stale}
		if s.engines[src] != nil {
			continue
		}
		c, err := s.cfg.Client(src.token)
		if err != nil {
			return err
		}
		// No watch waits for another's first answer.
		cfg := watch.Config{Client: c, Logger: s.cfg.Logger, Retry: s.cfg.Retry, FirstWait: time.Nanosecond}
		if src.stale {
			cfg.MaxStale = math.MaxInt64
		}
		s.engines[src] = &engine{
			w: watch.New(cfg), log: s.cfg.Logger,
			latest: map[watch.Request]update{}, to: map[watch.Request][]*delivery{},
		}
	}
	return nil
}

// follow updates, starts and stops the engines to match the workers. Callers hold mu.
func (s *Set) follow() {
	wanted := map[source]map[watch.Request][]*delivery{}
	for _, w := range s.workers {
		src, q := source{w.spec.Token, w.spec.Stale}, w.delivery.request()
		if wanted[src] == nil {
			wanted[src] = map[watch.Request][]*delivery{}
		}
		wanted[src][q] = append(wanted[src][q], w.delivery)
	}
	for src, e := range s.engines {
		e.set(wanted[src])
		switch {
		case len(wanted[src]) == 0:
			if e.end != nil {
				e.end()
			}
			delete(s.engines, src)
		case e.end == nil:
			ctx, end := context.WithCancel(s.ctx)
			e.end = end
			s.wg.Go(func() {
				if err := e.w.Run(ctx); err != nil {
					s.fail(fmt.Errorf("%w: %w", ErrNoAnswer, err))
				}
			})
			s.wg.Go(func() { e.dispatch(ctx) })
		}
	}
}

// set replaces the deliveries. A new one gets a known result at once.
func (e *engine) set(to map[watch.Request][]*delivery) {
	e.mu.Lock()
	defer e.mu.Unlock()
	queries := make([]watch.Request, 0, len(to))
	for q, all := range to {
		queries = append(queries, q)
		v, known := e.latest[q]
		for _, d := range all {
			if known && !slices.Contains(e.to[q], d) {
				d.put(v)
			}
		}
	}
	for q := range e.latest {
		if to[q] == nil {
			delete(e.latest, q)
		}
	}
	e.to = to
	e.w.Follow(queries)
}

// dispatch publishes frames until ctx ends.
func (e *engine) dispatch(ctx context.Context) {
	for {
		frame, err := e.w.Next(ctx)
		if err != nil {
			return
		}
		e.mu.Lock()
		for q, result := range frame.Results {
			e.publish(q, result)
		}
		e.mu.Unlock()
	}
}

// publish gives one result to its deliveries. Callers hold mu.
func (e *engine) publish(q watch.Request, r watch.Result) {
	if e.to[q] == nil {
		return
	}
	v, err := updateOf(r)
	if err != nil {
		e.log.Error("cannot use an answer", "query", q.String(), "error", err)
		return
	}
	e.latest[q] = v
	for _, d := range e.to[q] {
		d.put(v)
	}
}
