package funcs

import (
	"context"
	"fmt"
	"text/template"

	"github.com/muster-dev/muster/pkg/query"
)

// pass is one execution of a template. The functions that need its state are its
// methods. It belongs to one goroutine.
type pass struct {
	ctx      context.Context
	src      Source
	opts     Options
	memo     *Memo
	set      *template.Template // the templates being executed, for executeTemplate
	complete bool               // until a look-up finds nothing
	files    []File
	scratch  *scratch
	depth    int                          // of executeTemplate
	listed   []map[string]*CatalogSnippet // results of services so far

	bodies   map[*fragment]*template.Template // those that this pass has executed
	args     []any                            // of the fragment that is being executed
	recorded *[]answer                        // its answers; nil: none is
}

func newPass(ctx context.Context, src Source, o Options) *pass {
	return &pass{ctx: ctx, src: src, opts: o, memo: &Memo{}, complete: true, scratch: newScratch(), bodies: map[*fragment]*template.Template{}}
}

// table lists the functions bound to a pass.
func (p *pass) table() template.FuncMap {
	return template.FuncMap{
		"key":          p.key,
		"keyExists":    p.keyExists,
		"keyOrDefault": p.keyOrDefault,
		"ls":           p.ls,
		"safeLs":       p.safeLs,
		"tree":         p.tree,
		"safeTree":     p.safeTree,

		"service":     p.service,
		"services":    p.services,
		"node":        p.node,
		"nodes":       p.nodes,
		"datacenters": p.datacenters,
		"file":        p.file,

		"env":             p.env,
		"mustEnv":         p.mustEnv,
		"envOrDefault":    p.envOrDefault,
		"executeTemplate": p.executeTemplate,
		"scratch":         func() *scratch { return p.scratch },
		"plugin":          p.plugin,
		"writeToFile":     p.writeToFile,
		"spew_dump":       p.spewDump,
		"spew_printf":     p.spewPrintf,
	}
}

// lookup asks the source and checks the type of the answer. A name without a path, such
// as ../../x, does not exist: a name from data can neither fail a template nor read
// something else.
func lookup[T any](p *pass, q query.Query) (value T, ok bool, err error) {
	if _, is := q.Path(); !is && q.Kind != query.KindFile {
		return value, true, nil
	}
	raw, ok := p.src.Lookup(q)
	if !ok {
		p.complete = false
		return value, false, nil
	}
	if p.recorded != nil {
		*p.recorded = append(*p.recorded, answer{q, raw})
	}
	switch v := raw.(type) {
	case nil:
		return value, true, nil
	case T:
		return v, true, nil
	case error:
		return value, false, fmt.Errorf("%s: %w", q, v)
	default:
		return value, false, fmt.Errorf("%s: the answer is a %T instead of a %T", q, raw, value)
	}
}

// block keeps this pass from being rendered although q has an answer.
func (p *pass) block(q query.Query) {
	p.complete = false
	p.src.Block(q)
}

func (p *pass) executeTemplate(name string, data ...any) (string, error) {
	if len(data) > 1 {
		return "", fmt.Errorf("executeTemplate: wrong number of arguments, expected 1 or 2, but got %d", len(data)+1)
	}
	if p.set.Lookup(name) == nil {
		return "", fmt.Errorf("executeTemplate: no template %q is defined", name)
	}
	if p.depth++; p.depth > maxNesting {
		return "", fmt.Errorf("executeTemplate: template %q executes itself too deeply", name)
	}
	defer func() { p.depth-- }()
	var dot any
	if len(data) == 1 {
		dot = data[0]
	}
	buf := &limitedBuffer{}
	err := p.set.ExecuteTemplate(buf, name, dot)
	return buf.String(), err
}
