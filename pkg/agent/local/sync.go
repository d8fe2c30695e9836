package local

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"time"
)

const (
	fullInterval = time.Minute      // between full comparisons, scaled by the size of the cluster
	retryFirst   = time.Second      // pause after a failure; it doubles
	retryLast    = 15 * time.Second // up to this; as much again is added at random
	soonStagger  = 3 * time.Second  // SyncSoon spreads the agents of a cluster over this
	failingGap   = time.Second      // least pause between attempts caused by changes, while attempts fail
	callTimeout  = 30 * time.Second // for one call of the catalog
)

// syncer is the state of syncLoop.
//
//	      an attempt failed
//	good -------------------> failing
//	     <-------------------
//	      an attempt succeeded
//
// good: a change is pushed at once; a full comparison runs every one to two minutes,
// less often in large clusters.
// failing: a full comparison runs after 1, 2, 4, 8, 15, 15 ... seconds plus as much again
// at random; a change causes an earlier attempt, at most one a second.
type syncer struct {
	s        *State
	compared bool // at least once; before that, tags edited in the catalog are unknown
	failures int
	nextFull time.Time
	lastTry  time.Time
}

// syncLoop keeps the catalog equal to the state until ctx ends. Only this loop writes to
// the catalog, one call after the other, so registrations and deregistrations reach it
// in order.
func (s *State) syncLoop(ctx context.Context) {
	y := &syncer{s: s, nextFull: time.Now()}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(y.nextFull))
		select {
		case <-ctx.Done():
			return
		case <-s.soon:
			y.compareBy(time.Now().Add(y.stagger()))
		case <-s.dirty:
			if y.failures > 0 && time.Since(y.lastTry) < failingGap {
				y.compareBy(y.lastTry.Add(failingGap))
				continue
			}
			y.attempt(ctx, !y.compared)
		case <-timer.C:
			y.attempt(ctx, true)
		}
	}
}

// compareBy moves the next full comparison forward to t, if it is later.
func (y *syncer) compareBy(t time.Time) {
	if t.Before(y.nextFull) {
		y.nextFull = t
	}
}

// stagger returns the delay of a full comparison that SyncSoon asked for: none after a
// failure and before the first comparison.
func (y *syncer) stagger() time.Duration {
	if y.failures > 0 || !y.compared {
		return 0
	}
	return rand.N(soonStagger)
}

func (y *syncer) attempt(ctx context.Context, full bool) {
	y.lastTry = time.Now()
	var err error
	if full {
		err = y.s.compareAll(ctx)
		y.compared = y.compared || err == nil
	}
	if err == nil {
		err = y.s.push(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if y.failures == 0 {
			y.s.log.Warn("cannot bring the catalog in step: retrying until it works", "error", err)
		} else {
			y.s.log.Debug("still cannot bring the catalog in step", "attempts", y.failures+1, "error", err)
		}
		y.failures++
		y.nextFull = time.Now().Add(retryDelay(y.failures))
		return
	}
	if y.failures > 0 {
		y.s.log.Info("the catalog is in step again", "failed_attempts", y.failures)
		y.failures = 0
	}
	if full {
		every := fullInterval * time.Duration(scale(y.s.cfg.ClusterSize()))
		y.nextFull = time.Now().Add(every + rand.N(every))
	}
}

func retryDelay(failures int) time.Duration {
	d := retryLast
	if failures <= 4 {
		d = retryFirst << (failures - 1)
	}
	return d + rand.N(d)
}

// scale is 1 for up to 128 members, and one more for each doubling.
func scale(members int) int {
	if members <= 128 {
		return 1
	}
	return 1 + bits.Len(uint(members-1)/128)
}

// wakeSync wakes syncLoop. It may be called with or without mu.
func (s *State) wakeSync() { signal(s.dirty) }
