package handlers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// Status is the state of a Set, for people and monitoring. It holds no watched data.
type Status struct {
	Watches []WatchStatus   `json:"watches"`
	Failing []watch.Failure `json:"failing"` // queries without an answer now
}

// WatchStatus is that of one watch.
type WatchStatus struct {
	Watch       string     `json:"watch"`
	State       string     `json:"state"`
	Waiting     int        `json:"waiting"` // changes to deliver, without the one whose handler runs
	Runs        int        `json:"runs"`    // of the handler
	Failures    int        `json:"failures"`
	GivenUp     int        `json:"given_up"`
	LastError   string     `json:"last_error"` // "": the last run succeeded
	Index       uint64     `json:"index"`      // of the last delivery
	DeliveredAt *time.Time `json:"delivered_at"`
}

// The states of a watch.
const (
	StateUnanswered = "unanswered" // no result yet
	StateIdle       = "idle"       // all is delivered
	StateSettling   = "settling"   // a change waits for Settle
	StateRunning    = "running"    // the handler runs
	StateFailed     = "failed"     // the handler failed, and will run again
)

// publish updates the status.
func (d *delivery) publish(state string) {
	if state == StateIdle && len(d.pending.updates) > 0 {
		state = StateSettling
		if d.failures > 0 {
			state = StateFailed
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.State, d.status.Waiting = state, len(d.pending.updates)
}

// countRun counts a run of the handler.
func (d *delivery) countRun(v update, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Runs++
	if err != nil {
		d.status.Failures++
		d.status.LastError = err.Error()
		return
	}
	at := time.Now().UTC()
	d.status.LastError, d.status.Index, d.status.DeliveredAt = "", v.index, &at
}

// Status is the state now.
func (s *Set) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Watches: make([]WatchStatus, 0, len(s.workers)), Failing: []watch.Failure{}}
	for _, w := range s.workers {
		w.delivery.mu.Lock()
		now := w.delivery.status
		w.delivery.mu.Unlock()
		now.Watch = w.spec.String()
		out.Watches = append(out.Watches, now)
	}
	for _, e := range s.engines {
		out.Failing = append(out.Failing, watch.Failures(e.w.Failing())...)
	}
	slices.SortFunc(out.Watches, func(a, b WatchStatus) int { return strings.Compare(a.Watch, b.Watch) })
	return out
}

// Metrics is the status in Prometheus' text format. Watches of one name, which differ
// in their handlers, are counted together.
func (s Status) Metrics() string {
	var b strings.Builder
	family := func(name, kind, help string, value func(WatchStatus) float64) {
		fmt.Fprintf(&b, "# HELP %[1]s %[3]s\n# TYPE %[1]s %[2]s\n", name, kind, help)
		for i := 0; i < len(s.Watches); {
			label, sum := s.Watches[i].Watch, 0.0
			for ; i < len(s.Watches) && s.Watches[i].Watch == label; i++ {
				sum += value(s.Watches[i])
			}
			fmt.Fprintf(&b, "%s{watch=%q} %g\n", name, label, sum) // %q is right: a watch's name is quoted already and has no control characters
		}
	}
	family("muster_watch_handler_runs_total", "counter", "How often the handler ran.", func(w WatchStatus) float64 { return float64(w.Runs) })
	family("muster_watch_handler_failures_total", "counter", "How often it failed.", func(w WatchStatus) float64 { return float64(w.Failures) })
	family("muster_watch_given_up_total", "counter", "Changes that were given up.", func(w WatchStatus) float64 { return float64(w.GivenUp) })
	family("muster_watch_waiting", "gauge", "Changes that wait for their delivery.", func(w WatchStatus) float64 { return float64(w.Waiting) })
	family("muster_watch_failing", "gauge", "1 while the last run of the handler was a failure.", func(w WatchStatus) float64 {
		if w.LastError != "" {
			return 1
		}
		return 0
	})
	fmt.Fprintf(&b, "# HELP muster_watch_queries_failing Queries without an answer now.\n# TYPE muster_watch_queries_failing gauge\nmuster_watch_queries_failing %d\n", len(s.Failing))
	return b.String()
}
