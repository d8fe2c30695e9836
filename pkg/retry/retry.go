// Package retry paces repeated attempts: an exponential backoff with jitter, and
// a sleep that ends with its context.
//
// It promises that pauses grow to Max and stay there, that two callers which failed at
// the same moment do not try again at the same moment, and that a sleep leaves no timer
// behind.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pauses between attempts. The first is First, each next one is twice as
// long, up to Max; a random part of up to a half is subtracted. A Max below First counts
// as First. It is not safe for concurrent use.
type Backoff struct {
	First, Max time.Duration

	failures int
}

// Next is the pause before the next attempt.
func (b *Backoff) Next() time.Duration {
	d := Exponential(b.First, b.Max, b.failures)
	b.failures++
	return d/2 + rand.N(d/2+1)
}

// Sleep sleeps for the next pause; see the function Sleep for its error.
func (b *Backoff) Sleep(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Failures is how often Next was called since the last Reset.
func (b *Backoff) Failures() int { return b.failures }

// Reset starts again with First. Call it when an attempt has succeeded.
func (b *Backoff) Reset() { b.failures = 0 }

// Exponential is first doubled for each failure, up to limit, without jitter: for delays
// that are logged before they begin.
func Exponential(first, limit time.Duration, failures int) time.Duration {
	limit = max(first, limit)
	for d := first; ; d *= 2 {
		if failures <= 0 || d <= 0 {
			return d
		}
		if d >= limit/2 {
			return limit
		}
		failures--
	}
}

// Sleep waits for d and returns nil, or returns ctx's cause as soon as ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
