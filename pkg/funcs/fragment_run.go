package funcs

import (
	"fmt"
	"text/template"
)

// fragmentError carries an error out of a fragment, so that Execute can drop what
// text/template adds on the way.
type fragmentError struct{ err error }

func (e *fragmentError) Error() string { return e.err.Error() }

// fragmentTable binds the functions of fragments to a pass; bound are its other
// functions.
func (p *pass) fragmentTable(all []*fragment, bound template.FuncMap) template.FuncMap {
	return template.FuncMap{
		callFragment: func(nth int, dot any, args ...any) (string, error) {
			return p.fragment(all[nth], bound, dot, args)
		},
		callArgument: func(nth int) any { return p.args[nth] },
	}
}

// fragment is the text of a fragment: from the memo, if its answers are the same.
func (p *pass) fragment(f *fragment, bound template.FuncMap, dot any, args []any) (string, error) {
	key, ok := keyFor(f, dot, args)
	if !ok {
		made, _, err := p.run(f, bound, dot, args)
		return made.text, err
	}
	made := p.memo.text(key)
	if made == nil || !p.valid(made) {
		var whole bool
		var err error
		if made, whole, err = p.run(f, bound, dot, args); err != nil || !whole {
			return made.text, err
		}
	}
	p.memo.usedTexts[key] = made
	return made.text, nil
}

func keyFor(f *fragment, dot any, args []any) (key textKey, ok bool) {
	key.of = f
	key.dot, ok = keyOf(dot)
	for i := 0; ok && i < len(args); i++ {
		key.args[i], ok = keyOf(args[i])
	}
	return key, ok
}

// valid repeats a fragment's look-ups and reports whether all answers are the same.
func (p *pass) valid(made *cachedText) bool {
	for _, was := range made.from {
		if value, ok := p.src.Lookup(was.query); !ok || !unchanged(value, was.value) {
			return false
		}
	}
	return true
}

// run executes a fragment; whole means that no answer was missing.
func (p *pass) run(f *fragment, bound template.FuncMap, dot any, args []any) (made *cachedText, whole bool, err error) {
	made = &cachedText{}
	body := p.bodies[f]
	if body == nil {
		if body, err = f.body.Clone(); err != nil {
			return made, false, fmt.Errorf("%s: %w", f.body.Name(), err)
		}
		body.Funcs(bound)
		p.bodies[f] = body
	}
	before := p.complete
	p.complete, p.args, p.recorded = true, args, &made.from
	buf := &limitedBuffer{}
	if err = body.Execute(buf, dot); err != nil {
		err = &fragmentError{err}
	}
	made.text, whole = buf.String(), p.complete
	p.complete, p.args, p.recorded = before && whole, nil, nil
	return made, whole, err
}
