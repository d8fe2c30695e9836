package lock

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
	// delayPause is the longest pause between two attempts while a lock-delay
	// holds the lock back: nothing tells when it is over.
	delayPause = 500 * time.Millisecond
)

// patiently repeats what may get better: an agent that cannot be reached, a
// cluster without a leader. It gives up when ctx ends, with its cause.
func (l *Lock) patiently(ctx context.Context, what string, ask func() error) error {
	p := pause{}
	for {
		err := ask()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case hopeless(err):
			return err
		}
		if p.n == 0 {
			l.log.Warn("could not "+what+"; trying again", "error", err)
		}
		if err := p.sleep(ctx, longPause); err != nil {
			return err
		}
	}
}

// pause grows from sleep to sleep.
type pause struct{ n int }

// sleep takes a pause of at most the given length, its half at least; it returns
// the cause of ctx when that ends first.
func (p *pause) sleep(ctx context.Context, most time.Duration) error {
	d := min(most, firstPause<<min(p.n, 10))
	p.n++
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hopeless says whether an error is of the kind that time does not mend.
func hopeless(err error) bool {
	var status *api.StatusError
	if !errors.As(err, &status) {
		return errors.Is(err, ErrConflict)
	}
	return status.Code < 500 && status.Code != http.StatusTooManyRequests ||
		strings.Contains(status.Text, "Session TTL") // out of the agent's limits
}
