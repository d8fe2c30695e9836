package tmpl

import (
	"fmt"
	"net/url"

	"github.com/muster-dev/muster/pkg/funcs"
	"github.com/muster-dev/muster/pkg/watch"
)

// pass is the Source of one execution: it answers from what is known and keeps
// a record of what was asked for.
type pass struct {
	data    map[watch.Query]watch.Result
	files   *files
	queries map[watch.Query]bool
	paths   map[string]bool
	missing []string // what the pass still waits for, for a person to read
	blocked bool     // some of that was answered: it is not there
}

func newPass(data map[watch.Query]watch.Result, f *files) *pass {
	return &pass{data: data, files: f, queries: map[watch.Query]bool{}, paths: map[string]bool{}}
}

// Lookup implements funcs.Source.
func (p *pass) Lookup(q funcs.Query) (any, bool) {
	if q.Kind == funcs.KindFile {
		p.paths[q.Name] = true
		return p.files.read(q.Name), true
	}
	if q.Kind == funcs.KindNode && q.Name == "" {
		name, ok := p.self()
		if !ok {
			p.missing = append(p.missing, q.String())
			return nil, false
		}
		q.Name = name
	}
	query, err := plan(q)
	if err != nil {
		return err, true
	}
	value, ok := p.ask(query)
	if !ok {
		p.missing = append(p.missing, q.String())
	}
	return value, ok
}

// Block implements funcs.Source.
func (p *pass) Block(q funcs.Query) {
	p.blocked = true
	p.missing = append(p.missing, q.String()+" (nothing there yet)")
}

func (p *pass) ask(q watch.Query) (any, bool) {
	p.queries[q] = true
	r, ok := p.data[q]
	return r.Value, ok
}

// self is the name of the agent's own node.
func (p *pass) self() (string, bool) {
	value, ok := p.ask(watch.Query{Path: "/v1/agent/self"})
	if !ok {
		return "", false
	}
	config, _ := value.(map[string]any)["Config"].(map[string]any)
	name, _ := config["NodeName"].(string)
	return name, name != ""
}

// plan turns a template's query into one of the HTTP API.
func plan(q funcs.Query) (watch.Query, error) {
	params, err := url.ParseQuery(q.Params)
	if err != nil {
		return watch.Query{}, err
	}
	if q.Datacenter != "" {
		params.Set("dc", q.Datacenter)
	}
	if q.Near != "" {
		params.Set("near", q.Near)
	}
	var path string
	switch q.Kind {
	case funcs.KindKey:
		path = "/v1/kv/" + q.Name
	case funcs.KindPrefix:
		path = "/v1/kv/" + q.Name
		params.Set("recurse", "")
	case funcs.KindService:
		path = "/v1/health/service/" + q.Name
		if q.Tag != "" {
			params.Set("tag", q.Tag)
		}
		if q.Passing {
			params.Set("passing", "1")
		}
	case funcs.KindServices:
		path = "/v1/catalog/services"
	case funcs.KindNode:
		path = "/v1/catalog/node/" + q.Name
	case funcs.KindNodes:
		path = "/v1/catalog/nodes"
	case funcs.KindDatacenters:
		path = "/v1/catalog/datacenters"
	default:
		return watch.Query{}, fmt.Errorf("no such kind of data: %s", q.Kind)
	}
	return watch.Query{Path: path, Params: params.Encode()}, nil
}
