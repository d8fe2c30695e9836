package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"

	"github.com/muster-dev/muster/pkg/retry"
)

// gatePause is the time between two looks at the agent's checks, of which it
// tells no changes.
const gatePause = 200 * time.Millisecond

// subject is what a health gate is about.
type subject struct {
	services []string // ids, each of which needs a check
	all      bool     // every other check counts too
	checks   []string // ids of the node's own that have to be there
}

// subject is what has to be healthy after the change: the services that were named, or
// all that has a check before it. What is deregistered while it restarts is not healthy.
func (r *Rollout) subject(ctx context.Context) (subject, error) {
	if r.cfg.Hold == 0 || len(r.cfg.Services) > 0 {
		return subject{services: r.cfg.Services}, nil
	}
	for began := time.Now(); ; {
		checks, err := r.cfg.Client.AgentChecks(ctx, nil)
		switch {
		case err == nil:
			if len(checks) == 0 {
				r.log.Warn("rollout: there is no check at this agent, so that the hold is a mere pause; register one, or name a service")
			}
			return subjectOf(checks), nil
		case time.Since(began) >= r.cfg.HealthTimeout:
			return subject{}, fmt.Errorf("ask which checks there are before the change: %w", err)
		}
		if err := retry.Sleep(ctx, gatePause); err != nil {
			return subject{}, err
		}
	}
}

func subjectOf(checks map[string]*api.HealthCheck) subject {
	s := subject{all: true}
	for id, c := range checks {
		switch {
		case strings.HasPrefix(id, "_node_maintenance"), strings.HasPrefix(id, "_service_maintenance"):
		case c.ServiceID == "":
			s.checks = append(s.checks, id)
		case !slices.Contains(s.services, c.ServiceID):
			s.services = append(s.services, c.ServiceID)
		}
	}
	return s
}

// gate waits until the checks have passed for Hold without a break.
func (r *Rollout) gate(ctx context.Context, about subject) error {
	if r.cfg.Hold == 0 {
		return nil
	}
	began := time.Now()
	since := began // of what passes; zero: something does not
	for {
		checks, err := r.cfg.Client.AgentChecks(ctx, nil)
		bad := about.unhealthy(checks)
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
		if err := retry.Sleep(ctx, gatePause); err != nil {
			return err
		}
	}
}

// unhealthy says what does not pass; "": all does. What has no check is not healthy: its
// name may be misspelt, or it is registered anew at this moment.
func (s subject) unhealthy(checks map[string]*api.HealthCheck) string {
	var bad []string
	seen := map[string]bool{}
	for id, c := range checks {
		seen[c.ServiceID] = true
		mine := s.all || slices.Contains(s.services, c.ServiceID)
		if mine && c.Status != api.HealthPassing {
			bad = append(bad, id+" is "+c.Status)
		}
	}
	for _, id := range s.services {
		switch {
		case seen[id]:
		case s.all:
			bad = append(bad, fmt.Sprintf("service %q had a check before the change and has none now", id))
		default:
			bad = append(bad, fmt.Sprintf("service %q has no check at this agent: it is not registered here, has none, or its id is another", id))
		}
	}
	for _, id := range s.checks {
		if checks[id] == nil {
			bad = append(bad, fmt.Sprintf("check %q was there before the change and is not now", id))
		}
	}
	slices.Sort(bad)
	return strings.Join(bad, ", ")
}
