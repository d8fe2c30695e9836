package funcs

import (
	"reflect"
	"slices"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// Memo keeps results of a template's last pass for the next one: the text of each
// fragment, and what service and services return. It holds only what the last pass
// used. It belongs to one template and one goroutine; the zero value is empty.
type Memo struct {
	services map[string]*cachedServices // by argument, of the pass before
	used     map[string]*cachedServices // of this pass

	texts, usedTexts map[textKey]*cachedText
	listed           map[string]*CatalogSnippet // what services returned last, by name
}

// textKey is a fragment and its input.
type textKey struct {
	of   *fragment
	dot  any
	args [maxArgs]any
}

// cachedText is the text of a fragment, and the answers that it was made from.
type cachedText struct {
	text string
	from []answer
}

type answer struct {
	query query.Query
	value any
}

// cachedServices is what service returns for one answer.
type cachedServices struct {
	query   query.Query
	filters []string
	from    []*api.CheckServiceNode
	out     []*HealthService
	dotted  *cachedServices // of the service whose name is tag and name together
}

// begin starts a pass.
func (m *Memo) begin() {
	m.used = make(map[string]*cachedServices, len(m.services))
	m.usedTexts = make(map[textKey]*cachedText, len(m.texts))
}

// end drops what the pass has not used.
func (m *Memo) end() {
	m.services, m.used = m.used, nil
	m.texts, m.usedTexts = m.usedTexts, nil
}

// text is the text of a fragment in this pass or the one before.
func (m *Memo) text(key textKey) *cachedText {
	if made := m.usedTexts[key]; made != nil {
		return made
	}
	return m.texts[key]
}

// snippet is a service as services lists it: the same pointer as in the last pass, if
// nothing changed. tags are sorted.
func (m *Memo) snippet(name string, tags ServiceTags) *CatalogSnippet {
	if was := m.listed[name]; was != nil && slices.Equal(was.Tags, tags) {
		return was
	}
	return &CatalogSnippet{Name: name, Tags: tags}
}

// service is the entry of an argument, which may be of an older answer.
func (m *Memo) service(arg string) *cachedServices {
	if made := m.used[arg]; made != nil {
		return made
	}
	made := m.services[arg]
	if made != nil {
		m.used[arg] = made
	}
	return made
}

// sameAnswer reports whether two answers are identical: an answer is never modified.
func sameAnswer[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// unchanged reports whether two values are identical, or equal texts.
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

// keyOf returns a value as a part of a key, if it can be one: a plain value, or a pointer
// that stays the same as long as the answer does.
func keyOf(v any) (key any, is bool) {
	switch v := v.(type) {
	case nil, string, bool, int, int64, uint64, whole, large, *HealthService, *CatalogSnippet:
		return v, true
	case *KeyPair:
		if v != nil { // each pass makes a new one
			return *v, true
		}
	}
	return nil, false
}
