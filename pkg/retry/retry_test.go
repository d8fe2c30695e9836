package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestExponential(t *testing.T) {
	for _, c := range []struct {
		first, most time.Duration
		failures    int
		want        time.Duration
	}{
		{time.Second, 10 * time.Second, -1, time.Second},
		{time.Second, 10 * time.Second, 0, time.Second},
		{time.Second, 10 * time.Second, 1, 2 * time.Second},
		{time.Second, 10 * time.Second, 3, 8 * time.Second},
		{time.Second, 10 * time.Second, 4, 10 * time.Second},
		{time.Second, 10 * time.Second, 1 << 30, 10 * time.Second},
		{time.Minute, time.Second, 5, time.Minute},
		{0, time.Second, 5, 0},
		{time.Second, 1<<63 - 1, 200, 1<<63 - 1},
	} {
		if got := Exponential(c.first, c.most, c.failures); got != c.want {
			t.Errorf("Exponential(%v, %v, %d) = %v, want %v", c.first, c.most, c.failures, got, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{First: time.Second, Max: 4 * time.Second}
	for _, full := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		if d := b.Next(); d < full/2 || d > full {
			t.Errorf("pause %v, want between %v and %v", d, full/2, full)
		}
	}
	b.Reset()
	if d := b.Next(); d > time.Second {
		t.Errorf("after Reset the pause is %v, want the first", d)
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("slept %v: %v", time.Since(start), err)
		}
		gone := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		start = time.Now()
		b := Backoff{First: time.Hour}
		if err := b.Sleep(ctx); !errors.Is(err, gone) || time.Since(start) != time.Second {
			t.Errorf("slept %v: %v", time.Since(start), err)
		}
	})
}
