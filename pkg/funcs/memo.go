package funcs

import (
	"reflect"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// Memo keeps what a template's last pass made of the answers that it got, so that
// the next one makes anew only what changed: the text of each fragment, and what
// service and services return. It holds what the last pass asked for and no more. It
// belongs to one template and one goroutine; the zero value is empty.
type Memo struct {
	services map[string]*madeServices // by argument, of the pass before
	used     map[string]*madeServices // of this pass

	texts, usedTexts map[textKey]*madeText
	listed           map[string]*CatalogSnippet // what services returned last, by name
}

// textKey is a fragment and what it is given.
type textKey struct {
	of   *fragment
	dot  any
	args [maxArgs]any
}

// madeText is what became of it, and what the Source had said.
type madeText struct {
	text string
	from []answer
}

type answer struct {
	query query.Query
	value any
}

// madeServices is what service made of one answer.
type madeServices struct {
	query   query.Query
	filters []string
	from    []*api.CheckServiceNode
	out     []*HealthService
	dotted  *madeServices // those of the service that is called as tag and name together
}

// begin starts a pass.
func (m *Memo) begin() {
	m.used = make(map[string]*madeServices, len(m.services))
	m.usedTexts = make(map[textKey]*madeText, len(m.texts))
}

// end forgets what the pass has not asked for.
func (m *Memo) end() {
	m.services, m.used = m.used, nil
	m.texts, m.usedTexts = m.usedTexts, nil
}

// text is what a fragment made of what it is given in this pass or the one before.
func (m *Memo) text(key textKey) *madeText {
	if made := m.usedTexts[key]; made != nil {
		return made
	}
	return m.texts[key]
}

// snippet is a service as services lists it: the one that it listed before, if it is
// the same. Tags are sorted.
func (m *Memo) snippet(name string, tags ServiceTags) *CatalogSnippet {
	if was := m.listed[name]; was != nil && slices.Equal(was.Tags, tags) {
		return was
	}
	return &CatalogSnippet{Name: name, Tags: tags}
}

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

// unchanged says whether two values are one and the same; texts are compared.
func unchanged(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if !va.IsValid() || !vb.IsValid() {
		return va.IsValid() == vb.IsValid()
	}
	if va.Type() != vb.Type() {
		return false
	}
	switch va.Kind() {
	case reflect.Pointer, reflect.Map:
		return va.Pointer() == vb.Pointer()
	case reflect.Slice:
		return va.Len() == vb.Len() && va.Pointer() == vb.Pointer()
	case reflect.String:
		return va.String() == vb.String()
	default:
		return false
	}
}

// keyOf is a value as a part of a key, if it can be one: it is compared by what it is,
// or is a piece of an answer that is the same as long as the answer is.
func keyOf(v any) (key any, is bool) {
	switch v := v.(type) {
	case nil, string, bool, int, int64, uint64, whole, large, *HealthService, *CatalogSnippet:
		return v, true
	case *KeyPair:
		if v != nil { // made anew by each pass
			return *v, true
		}
	}
	return nil, false
}
