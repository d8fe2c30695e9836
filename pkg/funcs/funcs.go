// Package funcs is the language of templates: the functions of consul-template over a
// Source of data, which the caller implements.
//
// A template is parsed once and executed often. One execution is a pass: every
// dependency function (key, service, tree, ...) turns its argument into a Query,
// looks it up in the Source, and uses the present answer. Without an answer it
// returns an empty value and the pass is incomplete: its text must not be written,
// but its queries are recorded, so that the next pass gets further. The caller repeats
// passes until one is complete; nested look-ups (range services, then service .Name)
// need two or more.
//
// The package promises: the same answers give the same text (clock and random
// functions apart), an incomplete pass has no effects (no plugin runs, no file
// is written once data is missing), and values handed in by the Source are
// never modified. It knows neither HTTP nor watching.
package funcs

import "github.com/muster-dev/muster/pkg/query"

// Source answers the dependency functions of one pass. Execute calls it from one
// goroutine.
type Source interface {
	// Lookup records that the pass depends on q and returns what is known of q
	// now. The value's type follows from q.Kind (see query.Kind); a value of type
	// error makes the template function fail with it. ok is false where there
	// is no answer yet.
	Lookup(q query.Query) (value any, ok bool)
	// Block records that q is answered, but in a way that must not be rendered:
	// the key does not exist (key), the list is empty (safeLs, safeTree).
	Block(q query.Query)
}
