package toolopts

import (
	"log/slog"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/pkg/settings"
)

// Rollout makes the rollout of an apply block; nil if the block names no lock.
func Rollout(a settings.Apply, c *client.Client, log *slog.Logger) (*rollout.Rollout, error) {
	if a.Lock == "" {
		if a.Slots != 0 || a.Drain != "" || a.Hold != 0 || a.AbortAfter != 0 {
			return nil, command.Usagef("apply needs a lock: -apply-lock, or lock in the apply block")
		}
		return nil, nil
	}
	r, err := rollout.New(rollout.Config{
		Client: c, Lock: a.Lock, Slots: a.Slots, TTL: a.TTL, Drain: a.Drain, DrainWait: a.DrainWait,
		Services: a.Services, Hold: a.Hold, HealthTimeout: a.HealthTimeout, AbortAfter: a.AbortAfter, Logger: log,
	})
	if err != nil {
		return nil, &command.UsageError{Err: err}
	}
	return r, nil
}
