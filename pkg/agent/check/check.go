// Package check runs the health checks of one agent. A Checker runs one check and
// reports its results; the caller (package local) keeps them.
//
// It promises: runs of one check never overlap; the next run begins Interval after the
// end of the one before; the first begins after a random part of the interval, so that a
// restarted agent does not run all checks at once; output is limited; a check ends at
// its timeout, with all processes of a script.
//
// The types are script, http, tcp, udp, ttl and alias. Supported refuses others.
package check

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// MinInterval is the shortest interval at which a check runs. It replaces a shorter one
// in a definition.
const MinInterval = time.Second

const defaultTimeout = 10 * time.Second

// Options are what a check needs beside its definition.
type Options struct {
	ID        string
	Logger    *slog.Logger
	OutputMax int     // bytes, the agent's limit (check_output_max_size)
	Aliased   Aliased // for alias checks only
}

// Report receives the result of a check. It is called on the Checker's goroutine and
// must return quickly.
type Report func(status, output string)

// Checker runs one check.
type Checker interface {
	// Run runs the check until ctx ends.
	Run(ctx context.Context) error
}

// New makes the Checker of a definition that Validate and Supported accept. It starts
// nothing. The Checker of a TTL check is a *TTL.
func New(def *api.CheckDefinition, o Options, report Report) Checker {
	o.OutputMax = outputMax(def, o.OutputMax)
	switch Type(def) {
	case TypeTTL:
		return newTTL(def, o, report)
	case TypeAlias:
		return &alias{def: def, o: o, report: report}
	}
	var p probe
	switch Type(def) {
	case TypeHTTP:
		p = newHTTP(def, o)
	case TypeTCP:
		p = newTCP(def)
	case TypeUDP:
		p = udpProbe{addr: def.UDP, timeout: timeoutOf(def, defaultTimeout)}
	case TypeScript:
		p = scriptProbe{argv: def.ScriptArgs, timeout: timeoutOf(def, scriptTimeout), max: o.OutputMax}
	default:
		p = refused{Supported(def)}
	}
	return &poller{probe: p, interval: max(def.Interval.D(), MinInterval), count: newCounter(def), report: report}
}

// probe runs a check once.
type probe interface {
	run(ctx context.Context) (status, output string)
}

// refused is the probe of a check that should not have been registered.
type refused struct{ err error }

func (r refused) run(context.Context) (string, string) {
	if r.err == nil {
		return api.HealthCritical, "check has no type"
	}
	return api.HealthCritical, r.err.Error()
}

// poller runs a probe again and again.
type poller struct {
	probe    probe
	interval time.Duration
	count    counter
	report   Report
}

func (p *poller) Run(ctx context.Context) error {
	timer := time.NewTimer(rand.N(p.interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		status, output := p.probe.run(ctx)
		if ctx.Err() != nil {
			return nil // the end of ctx may be the cause of the result
		}
		if status, ok := p.count.apply(status); ok {
			p.report(status, output)
		}
		timer.Reset(p.interval)
	}
}

// counter counts results until they reach the thresholds of a check. It starts at the
// thresholds, so that the first result takes effect at once.
type counter struct {
	beforePassing, beforeWarning, beforeCritical int
	successes, failures                          int
}

func newCounter(def *api.CheckDefinition) counter {
	c := counter{
		beforePassing:  def.SuccessBeforePassing,
		beforeWarning:  def.FailuresBeforeWarning,
		beforeCritical: def.FailuresBeforeCritical,
	}
	if c.beforeWarning == 0 {
		c.beforeWarning = c.beforeCritical
	}
	c.successes, c.failures = c.beforePassing, c.beforeCritical
	return c
}

// apply counts one result and returns the status that follows from it. False means that
// the status does not change yet.
func (c *counter) apply(status string) (string, bool) {
	if status == api.HealthPassing || status == api.HealthWarning {
		c.successes++
		c.failures = 0
		return status, c.successes >= c.beforePassing
	}
	c.failures++
	c.successes = 0
	switch {
	case c.failures >= c.beforeCritical:
		return api.HealthCritical, true
	case c.failures >= c.beforeWarning:
		return api.HealthWarning, true
	}
	return "", false
}

func timeoutOf(def *api.CheckDefinition, fallback time.Duration) time.Duration {
	if def.Timeout > 0 {
		return def.Timeout.D()
	}
	return fallback
}

// outputMax returns the smaller of the agent's limit and the check's, if it has one.
func outputMax(def *api.CheckDefinition, limit int) int {
	if def.OutputMaxSize > 0 {
		return min(def.OutputMaxSize, limit)
	}
	return limit
}
