package funcs

import (
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// Memo keeps what a template's last pass made of the answers that it got, so that
// the next one makes anew only what changed: a template that shows a thousand
// services is executed as a whole when one of them changes. It holds what the last
// pass asked for and no more. It belongs to one template and one goroutine; the
// zero value is empty.
type Memo struct {
	services map[string]*madeServices // by argument, of the pass before
	used     map[string]*madeServices // of this pass
}

// madeServices is what service made of one answer.
type madeServices struct {
	query   query.Query
	filters []string
	from    []*api.CheckServiceNode
	out     []*HealthService
}

// begin starts a pass.
func (m *Memo) begin() { m.used = make(map[string]*madeServices, len(m.services)) }

// end forgets what the pass has not asked for.
func (m *Memo) end() { m.services, m.used = m.used, nil }

// service is the entry of an argument; it may be of an older answer.
func (m *Memo) service(arg string) *madeServices {
	if made := m.used[arg]; made != nil {
		return made
	}
	made := m.services[arg]
	if made != nil {
		m.used[arg] = made
	}
	return made
}

// sameAnswer says whether two answers are one and the same: an answer is never modified.
func sameAnswer[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
