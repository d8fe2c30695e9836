package toolflags

import (
	"log/slog"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/pkg/settings"
)

// AddApply defines the flags of a rollout, which are also the keys of a file's apply
// block; what is what is done one machine after the other.
func (f *Flags) AddApply(what string) {
	fs := f.set
	fs.String("apply-lock", "", "`prefix` of the lock that lets only so many machines at a time "+what)
	fs.Int("apply-slots", 1, "how many machines at a `time`; the same on all")
	fs.Duration("apply-ttl", 0, "`time` after which the slot of a machine that is not heard of is free (default 15s)")
	fs.String("apply-drain", "", "`what` is in maintenance mode meanwhile: node, or the id of a service of this agent's")
	fs.Duration("apply-drain-wait", 0, "`time` between the start of the maintenance mode and the change")
	fs.Duration("apply-hold", 0, "`time` for which the checks have to pass before the next machine's turn")
	fs.StringArray("apply-service", nil, "`id` of a service whose checks these are, repeatable (else all of this agent's)")
	fs.Duration("apply-health-timeout", rollout.DefaultHealthTimeout, "`time` after which a machine that is not healthy has failed")
	fs.Int("apply-abort-after-failures", 0, "so many `failures`, on whatever machine, stop the rollout; 0: none does")
}

// applyKeys are the keys of these flags in a file.
func applyKeys() map[string]string {
	return map[string]string{
		"apply-lock": "apply.lock", "apply-slots": "apply.slots", "apply-ttl": "apply.ttl", "apply-drain": "apply.drain",
		"apply-drain-wait": "apply.drain_wait", "apply-hold": "apply.hold", "apply-service": "apply.services",
		"apply-health-timeout": "apply.health_timeout", "apply-abort-after-failures": "apply.abort_after_failures",
	}
}

// Rollout makes what an apply block describes; nil for one without a lock.
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
