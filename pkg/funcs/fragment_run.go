package funcs

import (
	"fmt"
	"text/template"
)

// fragmentError carries an error out of a fragment: what text/template puts around
// it on the way is not to be read.
type fragmentError struct{ err error }

func (e *fragmentError) Error() string { return e.err.Error() }

// fragmentTable binds what stands in place of fragments to a pass, whose other
// functions are bound.
func (p *pass) fragmentTable(all []*fragment, bound template.FuncMap) template.FuncMap {
	return template.FuncMap{
		callFragment: func(nth int, dot any, args ...any) (string, error) {
			return p.fragment(all[nth], bound, dot, args)
		},
		callArgument: func(nth int) any { return p.args[nth] },
	}
}

// fragment is the text of a fragment, from the memo if nothing has changed.
func (p *pass) fragment(f *fragment, bound template.FuncMap, dot any, args []any) (string, error) {
	key, ok := keyFor(f, dot, args)
	if !ok {
		made, _, err := p.run(f, bound, dot, args)
		return made.text, err
	}
	made := p.memo.text(key)
	if made == nil || !p.holds(made) {
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

// holds asks the Source again what a fragment has asked, and says whether all answers
// are what they were.
func (p *pass) holds(made *madeText) bool {
	for _, was := range made.from {
		if value, ok := p.src.Lookup(was.query); !ok || !unchanged(value, was.value) {
			return false
		}
	}
	return true
}

// run executes a fragment; whole is that no answer was missing.
func (p *pass) run(f *fragment, bound template.FuncMap, dot any, args []any) (made *madeText, whole bool, err error) {
	made = &madeText{}
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
	buf := &bounded{}
	if err = body.Execute(buf, dot); err != nil {
		err = &fragmentError{err}
	}
	made.text, whole = buf.String(), p.complete
	p.complete, p.args, p.recorded = before && whole, nil, nil
	return made, whole, err
}
