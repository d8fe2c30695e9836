package tmpl

import (
	"github.com/muster-dev/muster/pkg/query"
	"github.com/muster-dev/muster/pkg/watch"
)

// pass is the Source of one execution: it answers from what is known and keeps
// a record of what was asked for.
type pass struct {
	data    map[watch.Request]watch.Result
	files   *files
	queries map[watch.Request]bool
	paths   map[string]bool
	missing []string // what the pass still waits for, for a person to read
	blocked bool     // some of that was answered: it is not there
}

func newPass(data map[watch.Request]watch.Result, f *files) *pass {
	return &pass{data: data, files: f, queries: map[watch.Request]bool{}, paths: map[string]bool{}}
}

// Lookup implements funcs.Source.
func (p *pass) Lookup(q query.Query) (any, bool) {
	if q.Kind == query.KindFile {
		p.paths[q.Name] = true
		return p.files.read(q.Name), true
	}
	if q.Kind == query.KindNode && q.Name == "" {
		name, ok := p.self()
		if !ok {
			p.missing = append(p.missing, q.String())
			return nil, false
		}
		q.Name = name
	}
	asked, err := watch.RequestFor(q)
	if err != nil {
		return err, true
	}
	again := p.queries[asked]
	value, ok := p.ask(asked)
	if !ok && !again {
		p.missing = append(p.missing, q.String())
	}
	return value, ok
}

// Block implements funcs.Source.
func (p *pass) Block(q query.Query) {
	p.blocked = true
	p.missing = append(p.missing, q.String()+" (nothing there yet)")
}

func (p *pass) ask(q watch.Request) (any, bool) {
	p.queries[q] = true
	r, ok := p.data[q]
	return r.Value, ok
}

// self is the name of the agent's own node.
func (p *pass) self() (string, bool) {
	value, ok := p.ask(watch.Request{Path: "/v1/agent/self"})
	if !ok {
		return "", false
	}
	config, _ := value.(map[string]any)["Config"].(map[string]any)
	name, _ := config["NodeName"].(string)
	return name, name != ""
}
