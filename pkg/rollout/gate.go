package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// gatePause is the time between two looks at the agent's checks, of which it
// tells no changes.
const gatePause = 200 * time.Millisecond

// gate waits until the checks have passed for Hold without a break.
func (r *Rollout) gate(ctx context.Context) error {
	if r.cfg.Hold == 0 {
		return nil
	}
	began := time.Now()
	since := began // of what passes; zero: something does not
	for {
		bad, err := r.unhealthy(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			bad = err.Error()
		}
		switch {
		case bad != "":
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		if !since.IsZero() && time.Since(since) >= r.cfg.Hold {
			return nil
		}
		if bad != "" && time.Since(began) >= r.cfg.HealthTimeout {
			return fmt.Errorf("not healthy within %v after the change: %s", r.cfg.HealthTimeout, bad)
		}
		if err := sleep(ctx, gatePause); err != nil {
			return err
		}
	}
}

// unhealthy says which checks do not pass; "" when all do.
func (r *Rollout) unhealthy(ctx context.Context) (string, error) {
	checks, err := r.cfg.Client.AgentChecks(ctx, nil)
	if err != nil {
		return "", err
	}
	var bad []string
	for id, c := range checks {
		mine := len(r.cfg.Services) == 0 || slices.Contains(r.cfg.Services, c.ServiceID)
		if mine && c.Status != api.HealthPassing {
			bad = append(bad, id+" is "+c.Status)
		}
	}
	slices.Sort(bad)
	return strings.Join(bad, ", "), nil
}
