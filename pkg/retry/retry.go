// Package retry paces repeated attempts: an exponential backoff with jitter, and
// a sleep that ends with its context.
//
// What it promises: pauses grow to Max and stay there; two callers that failed
// at the same moment do not try again at the same moment; no timer outlives its
// sleep.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives the pauses between attempts: the first is First, each one after
// it twice as long, Max at most, all less up to half by chance. A Max below
// First means First. It is not safe for concurrent use.
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

// Sleep waits for the next pause; see the function Sleep for its error.
func (b *Backoff) Sleep(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Failures is how many pauses Next has given since the last Reset.
func (b *Backoff) Failures() int { return b.failures }

// Reset makes the next pause the first again: an attempt has succeeded.
func (b *Backoff) Reset() { b.failures = 0 }

// Exponential is first doubled for each failure, most at most, without jitter:
// for delays that are announced or counted.
func Exponential(first, most time.Duration, failures int) time.Duration {
	most = max(first, most)
	for d := first; ; d *= 2 {
		if failures <= 0 || d <= 0 {
			return d
		}
		if d >= most/2 {
			return most
		}
		failures--
	}
}

// Sleep waits for d. It returns nil after that, or ctx's cause as soon as ctx ends.
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
