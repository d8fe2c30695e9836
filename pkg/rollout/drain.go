package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/retry"
)

// undrainTime is how long the end of the maintenance mode is tried for.
const undrainTime = 10 * time.Second

// reason is what the maintenance mode says; Recover knows it again.
func (r *Rollout) reason() string { return "rollout of " + r.cfg.Lock }

func (r *Rollout) maintain(ctx context.Context, on bool) error {
	if r.cfg.Drain == DrainNode {
		return r.cfg.Client.NodeMaintenance(ctx, on, r.reason())
	}
	return r.cfg.Client.ServiceMaintenance(ctx, r.cfg.Drain, on, r.reason())
}

func (r *Rollout) drain(ctx context.Context) error {
	if r.cfg.Drain == "" {
		return nil
	}
	if err := r.maintain(ctx, true); err != nil {
		return fmt.Errorf("drain %s: %w", r.cfg.Drain, err)
	}
	if err := retry.Sleep(ctx, r.cfg.DrainWait); err != nil {
		_ = r.undrain() // the reason to stop is what matters
		return err
	}
	return nil
}

// undrain ends the maintenance mode whatever has become of the change.
func (r *Rollout) undrain() error {
	if r.cfg.Drain == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), undrainTime)
	defer cancel()
	for {
		err := r.maintain(ctx, false)
		if err == nil {
			return nil
		}
		if retry.Sleep(ctx, time.Second) != nil {
			return fmt.Errorf("end the maintenance mode of %s: %w", r.cfg.Drain, err)
		}
	}
}

// Recover ends a maintenance mode that an earlier process of this rollout has
// left behind because it was killed. It is called before the first Do.
func (r *Rollout) Recover(ctx context.Context) error {
	if r.cfg.Drain == "" {
		return nil
	}
	id := "_node_maintenance"
	if r.cfg.Drain != DrainNode {
		id = "_service_maintenance:" + r.cfg.Drain
	}
	checks, err := r.cfg.Client.AgentChecks(ctx, nil)
	if err != nil {
		return fmt.Errorf("look for a maintenance mode of ours: %w", err)
	}
	if c := checks[id]; c == nil || c.Notes != r.reason() {
		return nil
	}
	r.log.Warn("ending the maintenance mode that an earlier rollout left", "of", r.cfg.Drain)
	return r.maintain(ctx, false)
}
