package check

import (
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/muster-dev/muster/pkg/api"
)

// TTL is a check whose status clients set. It turns critical if they do not set it again
// within the TTL.
type TTL struct {
	ttl    time.Duration
	max    int
	report Report

	mu      sync.Mutex
	last    string        // the output of the last Set
	expires time.Time     // zero: Run sets it to its start plus the TTL
	changed chan struct{} // holds one token when expires has changed
}

func newTTL(def *api.CheckDefinition, o Options, report Report) *TTL {
	return &TTL{ttl: def.TTL.D(), max: o.OutputMax, report: report, changed: make(chan struct{}, 1)}
}

// Set restarts the TTL. It returns the output cut to the check's limit, and when the
// check expires. It does not call the report.
func (t *TTL) Set(output string) (kept string, expires time.Time) {
	if n := len(output); n > t.max {
		cut := t.max
		for cut > max(0, t.max-utf8.UTFMax) && !utf8.RuneStart(output[cut]) {
			cut-- // do not cut a UTF-8 character
		}
		output = fmt.Sprintf("%s ... (captured %d of %d bytes)", output[:cut], cut, n)
	}
	expires = time.Now().Add(t.ttl)
	t.Resume(output, expires)
	return output, expires
}

// Resume restores the output and the expiry that an earlier run of the agent saved.
func (t *TTL) Resume(output string, expires time.Time) {
	t.mu.Lock()
	t.last, t.expires = output, expires
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// Restart restarts the TTL and keeps the output.
func (t *TTL) Restart() {
	t.mu.Lock()
	last := t.last
	t.mu.Unlock()
	t.Resume(last, time.Now().Add(t.ttl))
}

// Expired says whether the TTL is over. The receiver of a report must ask again under its
// own lock, because Set may have been called in between.
func (t *TTL) Expired() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !time.Now().Before(t.expires)
}

// Run reports critical each time the check expires.
func (t *TTL) Run(ctx context.Context) error {
	t.mu.Lock()
	if t.expires.IsZero() {
		t.expires = time.Now().Add(t.ttl)
	}
	t.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.changed:
		case <-timer.C:
		}
		t.mu.Lock()
		left, last := time.Until(t.expires), t.last
		t.mu.Unlock()
		if left > 0 {
			timer.Reset(left)
			continue
		}
		t.report(api.HealthCritical, expiredText(last))
		timer.Stop() // until the next Set
	}
}

func expiredText(last string) string {
	if last == "" {
		return "TTL expired"
	}
	return "TTL expired (last output before timeout follows): " + last
}
