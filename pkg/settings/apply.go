package settings

import "time"

// Apply says how a change is rolled out over the machines that name the same lock:
// package rollout's configuration, as it stands in a file.
type Apply struct {
	Lock          string        `conf:"lock"` // "": no rollout
	Slots         int           `conf:"slots"`
	TTL           time.Duration `conf:"ttl"`
	Drain         string        `conf:"drain"`
	DrainWait     time.Duration `conf:"drain_wait"`
	Services      []string      `conf:"services"`
	Hold          time.Duration `conf:"hold"`
	HealthTimeout time.Duration `conf:"health_timeout"`
	AbortAfter    int           `conf:"abort_after_failures"`
}
