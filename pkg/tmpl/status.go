package tmpl

import (
	"slices"
	"strings"
	"sync"
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

	dataAt time.Time
}

// Status is what the engine said when it last came to rest. It is safe for
// concurrent use.
func (t *Tool) Status() Status {
	out := t.status.read()
	for i := range out.Templates {
		s := &out.Templates[i]
		s.Age = -1
		if !s.dataAt.IsZero() {
			s.Age = time.Since(s.dataAt).Seconds()
		}
	}
	return out
}

// board is where the engine writes its status for others to read.
type board struct {
	mu      sync.Mutex
	status  Status
	failing func() map[watch.Request]error
}

func (b *board) read() Status {
	b.mu.Lock()
	out, failing := b.status, b.failing
	b.mu.Unlock()
	out.Templates = slices.Clone(out.Templates)
	out.Failing = []watch.Failure{}
	if failing != nil {
		out.Failing = watch.Failures(failing())
	}
	return out
}

// publish shows what the engine has come to.
func (e *engine) publish() {
	if e.board == nil {
		return
	}
	s := Status{Complete: e.complete}
	queries := map[watch.Request]bool{}
	for _, u := range e.units {
		s.Templates = append(s.Templates, u.status())
		for q := range u.queries {
			queries[q] = true
		}
	}
	s.Queries = len(queries)
	e.board.mu.Lock()
	defer e.board.mu.Unlock()
	e.board.status, e.board.failing = s, e.watcher.Failing
}

const waitsPrefix = "waiting for "

func (u *unit) status() TemplateStatus {
	trouble := u.said != "" && !strings.HasPrefix(u.said, waitsPrefix)
	if trouble && u.said != u.seen.err {
		u.seen.err, u.seen.errAt = u.said, time.Now()
	}
	s := TemplateStatus{
		Source: u.Source, Destination: u.Destination, State: StateRendered,
		LastRender: moment(u.seen.renderedAt), LastChange: moment(u.seen.changedAt),
		Cause: slices.Clone(u.seen.cause), Renders: u.seen.renders,
		LastError: u.seen.err, LastErrorAt: moment(u.seen.errAt),
		Dependencies: len(u.queries) + len(u.paths), Queries: []string{}, Files: []string{},
		Missing: slices.Clone(u.missing), dataAt: u.seen.dataAt,
	}
	switch {
	case u.rejection != nil && u.out == nil:
		s.State = StateRejected
	case trouble:
		s.State = StateFailed
	case u.out != nil:
		s.State = StatePending
	case len(u.missing) > 0 || !u.done:
		s.State = StateWaiting
	}
	for q := range u.queries {
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

// noteCause notes that an answer of q concerns the unit.
func (u *unit) noteCause(q watch.Request) {
	const most = 20
	u.seen.dataAt = time.Now()
	if text := q.String(); len(u.seen.causeNext) < most && !slices.Contains(u.seen.causeNext, text) {
		u.seen.causeNext = append(u.seen.causeNext, text)
	}
}

// rendered notes a render that changed the file, or found it as it should be.
func (s *seen) rendered(changed bool) {
	s.renderedAt = time.Now()
	if changed {
		s.renders++
		s.changedAt = s.renderedAt
	}
	s.cause, s.causeNext = s.causeNext, nil
	if s.cause == nil {
		s.cause = []string{}
	}
}
