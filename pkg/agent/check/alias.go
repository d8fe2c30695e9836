package check

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	aliasRefresh  = time.Minute      // an unchanged target is read again after this
	aliasRetryMin = time.Second      // pause after an error; it doubles
	aliasRetryMax = 30 * time.Second // and grows no longer than this
)

// Aliased is where alias checks read the checks of their targets.
type Aliased interface {
	// AliasedChecks returns the checks that decide the health of t, without t.Except. It
	// blocks until something has changed since the given index, but no longer than wait.
	AliasedChecks(ctx context.Context, t AliasTarget, since uint64, wait time.Duration) (AliasState, error)
}

// AliasTarget names what an alias check mirrors. An empty Node is this agent's; an empty
// Service means the node alone.
type AliasTarget struct {
	Node, Service string
	Except        string // the alias check itself
}

// AliasState is the present state of a target.
type AliasState struct {
	Checks []*api.HealthCheck
	Found  bool // false if the service does not exist
	Index  uint64
}

// alias mirrors the health of another service or node.
type alias struct {
	def    *api.CheckDefinition
	o      Options
	report Report
}

func (a *alias) Run(ctx context.Context) error {
	target := AliasTarget{Node: a.def.AliasNode, Service: a.def.AliasService, Except: a.o.ID}
	var index uint64
	retry := aliasRetryMin
	for ctx.Err() == nil {
		state, err := a.o.Aliased.AliasedChecks(ctx, target, index, aliasRefresh)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			a.o.Logger.Warn("cannot read the target of an alias check: retrying",
				"check", a.o.ID, "node", target.Node, "service", target.Service, "in", retry, "error", err)
			sleep(ctx, retry)
			retry, index = min(2*retry, aliasRetryMax), 0
			continue
		}
		retry, index = aliasRetryMin, state.Index
		status, output := a.aggregate(state)
		if len(output) > a.o.OutputMax {
			output = output[:a.o.OutputMax] // else the outputs of two aliases of each other would grow without limit
		}
		a.report(status, output)
	}
	return nil
}

func (a *alias) aggregate(state AliasState) (status, output string) {
	if !state.Found {
		return api.HealthCritical, fmt.Sprintf("Service %s could not be found on node %s",
			a.def.AliasService, a.def.AliasNode)
	}
	if len(state.Checks) == 0 {
		return api.HealthPassing, "No checks found."
	}
	status, output = api.HealthPassing, "All checks passing."
	for _, c := range state.Checks {
		switch c.Status {
		case api.HealthPassing:
			continue
		case api.HealthWarning:
			status = api.HealthWarning
		default:
			status = api.HealthCritical
		}
		output = fmt.Sprintf("Aliased check %q failing: %s", c.Name, c.Output)
		if status == api.HealthCritical {
			break
		}
	}
	return status, output
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
