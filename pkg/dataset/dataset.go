// Package dataset keeps the newest results of a changing set of requests: those of a
// watcher, and, at a start without any agent, those that an earlier process has stored
// on disk.
//
// It promises that the result of a request is dropped when it is not followed any more,
// because it would be old when it is followed again; that results from disk are used only
// until an agent has answered; and that only results that the owner calls complete are
// stored.
package dataset

import (
	"context"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// Config configures a Set.
type Config struct {
	Watch watch.Config
	Cache watch.CacheConfig // Path "": nothing is stored
	Fresh bool              // do not use stored results; store new ones
}

// Set is a set of requests with their results. Run runs in a goroutine of its own, and
// Failing is safe for concurrent use; all other methods belong to one goroutine.
type Set struct {
	// Results are the newest ones, which the owner only reads.
	Results map[watch.Request]watch.Result

	cfg     Config
	watcher *watch.Watcher
	cache   *watch.Cache
	wanted  map[watch.Request]bool
	stored  map[watch.Request]bool // results that are from disk
	savedAt time.Time
	failed  string // the last error of storing results, which is logged once
	frames  chan watch.Frame
	ended   chan error
}

// New makes a Set. It reads the stored results and asks nothing before Run.
func New(cfg Config) *Set {
	return &Set{
		Results: map[watch.Request]watch.Result{}, cfg: cfg,
		watcher: watch.New(cfg.Watch), cache: watch.NewCache(cfg.Cache),
		stored: map[watch.Request]bool{}, frames: make(chan watch.Frame), ended: make(chan error, 1),
	}
}

// Load reads the stored results. It is called before Run.
func (s *Set) Load() {
	if err := s.cache.Load(time.Now()); err != nil {
		s.cfg.Watch.Logger.Warn("cannot use the data kept on disk", "error", err)
	}
	if s.cfg.Fresh {
		s.cache.Forget()
	}
}

// Run follows the requests until ctx ends, or the watcher gives up.
func (s *Set) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.watcher.Pump(ctx, s.frames) })
	s.ended <- s.watcher.Run(ctx)
	wg.Wait()
}

// Frames yields frames of new results; pass them to Accept.
func (s *Set) Frames() <-chan watch.Frame { return s.frames }

// Ended yields the watcher's error once.
func (s *Set) Ended() <-chan error { return s.ended }

// Failing is the error of each request that has no answer now.
func (s *Set) Failing() map[watch.Request]error { return s.watcher.Failing() }

// Follow replaces the set of requests; it does not modify the map.
func (s *Set) Follow(wanted map[watch.Request]bool) {
	s.wanted = wanted
	requests := make([]watch.Request, 0, len(wanted))
	for q := range wanted {
		requests = append(requests, q)
	}
	for q := range s.Results {
		if !wanted[q] {
			delete(s.Results, q)
			delete(s.stored, q)
		}
	}
	s.watcher.Follow(requests)
}

// Accept stores the results of a frame, and of the frames that are waiting. It returns the
// requests that have new results.
func (s *Set) Accept(frame watch.Frame) (changed map[watch.Request]bool) {
	changed = map[watch.Request]bool{}
	s.cache.Changed(time.Now())
	for {
		for q, r := range frame.Results {
			if s.wanted[q] {
				s.Results[q] = r
				delete(s.stored, q)
				changed[q] = true
			}
		}
		select {
		case frame = <-s.frames:
		default:
			return changed
		}
	}
}

// NextWake is when the owner must call Tend; zero means never.
func (s *Set) NextWake() time.Time { return s.cache.NextWake() }

// Tend stores results when that is due; complete says that they are all that is wanted.
// If use is set and no agent answers, requests without a result get the stored one; it
// returns those that did.
func (s *Set) Tend(complete, use bool) (loaded map[watch.Request]bool) {
	useLoaded, err := s.cache.Tend(s.Results, complete, len(s.Failing()) > 0, time.Now())
	s.storeFailed(err)
	if !useLoaded || !use {
		return nil
	}
	loaded = map[watch.Request]bool{}
	for q := range s.wanted {
		if _, known := s.Results[q]; known {
			continue
		}
		if r, ok := s.cache.Lookup(q); ok {
			s.Results[q], s.stored[q], loaded[q] = r, true, true
		}
	}
	if len(loaded) > 0 {
		s.savedAt = s.cache.Used()
	}
	return loaded
}

// FromDisk says whether there are stored results among Results, and when they were last
// known to be current.
func (s *Set) FromDisk() (savedAt time.Time, yes bool) { return s.savedAt, len(s.stored) > 0 }

// Flush stores at the end what Tend has not.
func (s *Set) Flush(complete bool) {
	s.storeFailed(s.cache.Flush(s.Results, complete, len(s.Failing()) > 0))
}

func (s *Set) storeFailed(err error) {
	if err != nil && s.failed != err.Error() {
		s.failed = err.Error()
		s.cfg.Watch.Logger.Warn("cannot keep the data for a start without an agent", "error", err)
	}
}
