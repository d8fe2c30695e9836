package lock

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/retry"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
	// maxDelayBackoff bounds the pauses between attempts while a lock-delay holds the
	// lock back: nothing tells when it is over.
	maxDelayBackoff = 500 * time.Millisecond
)

func newBackoff() *retry.Backoff { return &retry.Backoff{First: firstBackoff, Max: maxBackoff} }

// retry repeats ask until it succeeds or fails with a permanent error. If ctx ends
// first the error is its cause. what is for the log, which tells of the first failure.
func (l *Lock) retry(ctx context.Context, what string, ask func() error) error {
	for backoff := newBackoff(); ; {
		err := ask()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case permanent(err):
			return err
		case backoff.Failures() == 0:
			l.log.Warn("could not "+what+"; trying again", "error", err)
		}
		if err := backoff.Sleep(ctx); err != nil {
			return err
		}
	}
}

// permanent reports whether an error stays the same however often the request is
// repeated: neither an agent that cannot be reached nor a cluster without a leader.
func permanent(err error) bool {
	var status *api.StatusError
	if !errors.As(err, &status) {
		return errors.Is(err, ErrConflict)
	}
	return status.Code < 500 && status.Code != http.StatusTooManyRequests ||
		strings.Contains(status.Text, "Session TTL") // out of the agent's limits
}
