package envexec

import (
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// Status is what a Tool does at the moment, for people and their monitoring. It holds no
// values.
type Status struct {
	State     string          `json:"state"`
	Pid       int             `json:"pid"`        // of the child, 0: it does not run
	Starts    int             `json:"starts"`     // how often the child was started
	StartedAt *time.Time      `json:"started_at"` // the last time
	Changes   int             `json:"changes"`    // how often the variables have changed since the first start
	ChangedAt *time.Time      `json:"changed_at"` // the last time
	Variables []string        `json:"variables"`  // their names
	FromDisk  bool            `json:"from_disk"`  // they are of the data kept on disk
	Missing   []string        `json:"missing"`    // what the first start waits for
	LastError string          `json:"last_error"` // "": no trouble
	Queries   int             `json:"queries"`    // look-ups that are followed
	Failing   []watch.Failure `json:"failing"`    // those without an answer now
}

// The states of a Tool.
const (
	StateWaiting = "waiting" // for data
	StateRunning = "running" // the child runs
	StateStarts  = "starting"
)

// Status is the state at the last rest of the engine, and that of the child now. It is safe for
// concurrent use.
func (t *Tool) Status() Status {
	t.mu.Lock()
	out, live := t.status, t.live
	t.mu.Unlock()
	out.Failing = []watch.Failure{}
	if live != nil {
		live(&out)
	}
	return out
}

// publish stores what Status shows of the engine.
func (e *engine) publish() {
	_, fromDisk := e.set.FromDisk()
	s := Status{
		State: StateWaiting, Changes: e.changes, ChangedAt: moment(e.changedAt), FromDisk: fromDisk,
		Variables: []string{}, Missing: []string{}, LastError: e.lastError, Queries: len(e.sources),
	}
	if e.started {
		s.State = StateStarts
	}
	for _, v := range e.vars {
		s.Variables = append(s.Variables, v.Name)
	}
	for _, src := range e.sources {
		if _, ok := e.set.Results[src.query]; !ok {
			s.Missing = append(s.Missing, src.name)
		}
	}
	e.tool.mu.Lock()
	defer e.tool.mu.Unlock()
	e.tool.status = s
}

// look adds what is known without the engine.
func (e *engine) look(s *Status) {
	child := e.sup.Status()
	s.Pid, s.Starts, s.StartedAt = child.Pid, child.Starts, moment(child.StartedAt)
	if s.Pid != 0 {
		s.State = StateRunning
	}
	s.Failing = watch.Failures(e.set.Failing())
}

// moment is nil for the time that never was.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Metrics is the status in Prometheus' text format.
func (s Status) Metrics() string {
	var b strings.Builder
	one := func(name, kind, help string, value float64) {
		fmt.Fprintf(&b, "# HELP %[1]s %[3]s\n# TYPE %[1]s %[2]s\n%[1]s %[4]g\n", name, kind, help, value)
	}
	yes := map[bool]float64{true: 1}
	one("muster_envexec_running", "gauge", "1 while the child runs.", yes[s.State == StateRunning])
	one("muster_envexec_starts_total", "counter", "How often the child was started.", float64(s.Starts))
	one("muster_envexec_changes_total", "counter", "How often the variables have changed since the first start.", float64(s.Changes))
	one("muster_envexec_variables", "gauge", "Variables that the data make.", float64(len(s.Variables)))
	one("muster_envexec_from_disk", "gauge", "1 while the data are those kept on disk.", yes[s.FromDisk])
	one("muster_envexec_trouble", "gauge", "1 while the data make no environment, or it cannot be written.", yes[s.LastError != ""])
	one("muster_envexec_queries", "gauge", "Look-ups that are followed.", float64(s.Queries))
	one("muster_envexec_queries_failing", "gauge", "Look-ups without an answer now.", float64(len(s.Failing)))
	if s.ChangedAt != nil {
		one("muster_envexec_last_change_timestamp_seconds", "gauge", "When the variables last changed.", float64(s.ChangedAt.UnixMilli())/1000)
	}
	if s.StartedAt != nil {
		one("muster_envexec_last_start_timestamp_seconds", "gauge", "When the child was last started.", float64(s.StartedAt.UnixMilli())/1000)
	}
	return b.String()
}
