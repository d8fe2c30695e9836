package local

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/agent/check"
)

// remotePoll is how often an alias check reads a service of another node.
const remotePoll = 10 * time.Second

// aliased implements check.Aliased. Targets on this node are in memory, and a change is
// seen at once; targets on other nodes are read from the catalog.
type aliased struct{ s *State }

func (a aliased) AliasedChecks(ctx context.Context, t check.AliasTarget, since uint64, wait time.Duration) (check.AliasState, error) {
	if t.Node != "" && t.Node != a.s.cfg.Node.Node {
		return a.remote(ctx, t, since, min(wait, remotePoll))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		state, changed := a.own(t)
		if state.Index > since {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return state, ctx.Err()
		case <-timer.C:
			return state, nil
		case <-changed:
		}
	}
}

// own returns the present state of a target on this node, and a channel that is closed
// at the next change.
func (a aliased) own(t check.AliasTarget) (check.AliasState, <-chan struct{}) {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	state := check.AliasState{Index: s.version + 1, Found: t.Service == "" || s.services[t.Service] != nil}
	for id, e := range s.checks {
		if id != t.Except && (e.health.ServiceID == "" || e.health.ServiceID == t.Service) {
			state.Checks = append(state.Checks, cloneHealth(&e.health))
		}
	}
	return state, s.changed
}

func (a aliased) remote(ctx context.Context, t check.AliasTarget, since uint64, wait time.Duration) (check.AliasState, error) {
	if since > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return check.AliasState{}, ctx.Err()
		case <-timer.C:
		}
	}
	state := check.AliasState{Index: since + 1}
	services, err := a.s.nodeServices(ctx, t.Node)
	if err != nil || services == nil {
		return state, err
	}
	state.Found = t.Service == "" || services.Services[t.Service] != nil
	checks, err := a.s.nodeChecks(ctx, t.Node)
	for _, c := range checks {
		if c.ServiceID == "" || c.ServiceID == t.Service {
			state.Checks = append(state.Checks, c)
		}
	}
	return state, err
}
