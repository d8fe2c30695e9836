package tmpl

import (
	"slices"
	"time"

	"github.com/muster-dev/muster/pkg/watch"
)

// Status is what a Tool does at the moment, for people and their monitoring.
type Status struct {
	Complete  bool             `json:"complete"` // every template has been rendered once
	Templates []TemplateStatus `json:"templates"`
	Failing   []watch.Failure  `json:"failing"` // look-ups without an answer now
	Queries   int              `json:"queries"` // look-ups that are followed
}

// The states of a template.
const (
	StateWaiting  = "waiting"  // for data, see Missing
	StateRendered = "rendered" // the file shows what is known
	StatePending  = "pending"  // will be written
	StateRejected = "rejected" // the check refused it: the file before stays
	StateFailed   = "failed"   // it cannot be executed or written: the file before stays
)

// TemplateStatus is one template's.
type TemplateStatus struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	State       string `json:"state"`

	LastRender  *time.Time `json:"last_render"` // when it was last rendered, changed or not
	LastChange  *time.Time `json:"last_change"` // when the file was last replaced
	Cause       []string   `json:"cause"`       // the look-ups whose change caused the last render
	Renders     int        `json:"renders"`     // how often the file was replaced
	LastError   string     `json:"last_error"`  // "": none so far
	LastErrorAt *time.Time `json:"last_error_at"`

	Dependencies int      `json:"dependencies"` // look-ups and files that it depends on
	Queries      []string `json:"queries"`
	Files        []string `json:"files"`
	Missing      []string `json:"missing"` // what it still waits for
	// Age is how many seconds ago the data last changed; -1: there are none yet.
	Age float64 `json:"age_seconds"`
}

// Status is made from the state of the engine now. It is safe for concurrent use.
func (t *Tool) Status() Status {
	if e := t.running.Load(); e != nil {
		return e.status()
	}
	return Status{Failing: []watch.Failure{}}
}

func (e *engine) status() Status {
	e.mu.Lock()
	units := e.units
	s := Status{Complete: e.complete, Failing: watch.Failures(e.set.Failing())}
	e.mu.Unlock()
	queries := map[watch.Request]bool{}
	for _, u := range units {
		s.Templates = append(s.Templates, u.status(queries))
	}
	s.Queries = len(queries)
	return s
}

// status shows a unit, and adds what it asks for to all.
func (u *unit) status(all map[watch.Request]bool) TemplateStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := TemplateStatus{
		Source: u.Source, Destination: u.Destination, State: u.state.shown(),
		LastRender: moment(u.renderedAt), LastChange: moment(u.changedAt),
		Cause: slices.Clone(u.cause), Renders: u.renders, LastError: u.err, LastErrorAt: moment(u.errAt),
		Dependencies: len(u.queries) + len(u.paths), Queries: []string{}, Files: []string{},
		Missing: slices.Clone(u.missing), Age: -1,
	}
	if !u.dataAt.IsZero() {
		s.Age = time.Since(u.dataAt).Seconds()
	}
	for q := range u.queries {
		all[q] = true
		s.Queries = append(s.Queries, q.String())
	}
	for p := range u.paths {
		s.Files = append(s.Files, p)
	}
	slices.Sort(s.Queries)
	slices.Sort(s.Files)
	return s
}

// moment is nil for the time that never was.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
