package envexec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/query"
	"github.com/muster-dev/muster/pkg/watch"
)

// Plan says what the variables are made of. Sources count in this order, a later one wins:
// prefixes, JSON keys, services.
type Plan struct {
	Prefixes []Prefix
	JSON     []string // keys that hold a JSON object, each member of which is a variable
	Services []Service
	Rules    env.Rules
	// Own is what the variables are laid over, and Custom what is laid over them.
	Own, Custom []string
}

// Prefix is a folder of the key/value store.
type Prefix struct {
	Path   string // "app" and "app/" mean the same; with ?params and @dc, see package query
	Named  bool   // the path is part of the names
	Format *env.Format
	Expand bool // a value that is a JSON object becomes a variable for each of its members
}

// Service is an entry of the catalog.
type Service struct {
	Query   string // [tag.]name[?params][@dc][~near]
	Formats env.ServiceFormats
}

// source is a part of the plan: what it asks for, and what it makes of the answer.
type source struct {
	name  string
	query watch.Request
	make  func(value any) (env.Source, error)
}

// sources reads the plan.
func (p Plan) sources() ([]source, error) {
	var out []source
	for _, prefix := range p.Prefixes {
		s, err := prefix.source()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for _, key := range p.JSON {
		s, err := jsonSource(key)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for _, service := range p.Services {
		s, err := service.source()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Check says what is wrong with a plan.
func (p Plan) Check() error {
	_, err := p.sources()
	return err
}

func (p Prefix) source() (source, error) {
	q, err := query.Parse(query.KindPrefix, p.Path)
	if err != nil {
		return source{}, fmt.Errorf("prefix %q: %w", p.Path, err)
	}
	folder := strings.TrimSuffix(q.Name, "/")
	name := "prefix " + folder + "/"
	if folder != "" {
		folder += "/"
	}
	q.Name = folder
	asks, err := watch.RequestFor(q)
	if err != nil {
		return source{}, fmt.Errorf("prefix %q: %w", p.Path, err)
	}
	folder = strings.TrimPrefix(asks.Path, "/v1/kv/") // app//db/../ is app/: names are relative to that
	prepend := ""
	if p.Named {
		prepend = strings.TrimSuffix(folder, "/")
	}
	return source{name, asks, func(value any) (env.Source, error) {
		pairs, _ := value.([]*api.KVPair)
		s := env.Source{Name: name, Prepend: prepend, Format: p.Format, Expand: p.Expand}
		for _, pair := range pairs {
			if key := strings.TrimPrefix(pair.Key, folder); key != "" && !strings.HasSuffix(key, "/") { // a folder
				s.Pairs = append(s.Pairs, env.Pair{Key: key, Value: string(pair.Value), From: pair.Key})
			}
		}
		return s, nil
	}}, nil
}

func jsonSource(key string) (source, error) {
	q, err := query.Parse(query.KindKey, key)
	if err != nil {
		return source{}, fmt.Errorf("key %q: %w", key, err)
	}
	asks, err := watch.RequestFor(q)
	if err != nil {
		return source{}, fmt.Errorf("key %q: %w", key, err)
	}
	name := "key " + q.Name
	return source{name, asks, func(value any) (env.Source, error) {
		pair, _ := value.(*api.KVPair)
		if pair == nil {
			return env.Source{}, fmt.Errorf("key %s is not there", q.Name)
		}
		pairs, err := env.Object(string(pair.Value), pair.Key)
		return env.Source{Name: name, Pairs: pairs}, err
	}}, nil
}

func (s Service) source() (source, error) {
	q, err := query.Parse(query.KindService, s.Query)
	if err != nil || strings.Contains(s.Query, "|") {
		return source{}, fmt.Errorf("service query %q: want [tag.]name[@datacenter][~near]", s.Query)
	}
	q.Passing = false
	asks, err := watch.RequestFor(q)
	asks.Path = "/v1/catalog/service/" + q.Name // all instances, whatever their health
	if err != nil {
		return source{}, fmt.Errorf("service query %q: %w", s.Query, err)
	}
	name := "service " + s.Query
	return source{name, asks, func(value any) (env.Source, error) {
		nodes, _ := value.([]*api.ServiceNode)
		instances := make([]env.Instance, 0, len(nodes))
		for _, n := range nodes {
			instances = append(instances, instance(n))
		}
		pairs, err := s.Formats.Pairs(instances)
		return env.Source{Name: name, Pairs: pairs, LastWins: true}, err
	}}, nil
}

func instance(n *api.ServiceNode) env.Instance {
	address := n.ServiceAddress
	if address == "" {
		address = n.Address
	}
	return env.Instance{
		Service: n.ServiceName, ID: n.ServiceID, Name: n.ServiceName,
		Address: address, Port: strconv.Itoa(n.ServicePort), Tags: n.ServiceTags,
	}
}

// build makes the variables of all answers. missing names what has none yet.
func build(sources []source, rules env.Rules, data map[watch.Request]watch.Result) (vars []env.Var, missing []string, err error) {
	var all []env.Source
	for _, s := range sources {
		r, ok := data[s.query]
		if !ok {
			missing = append(missing, s.name)
			continue
		}
		one, err := s.make(r.Value)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, one)
	}
	if len(missing) > 0 {
		return nil, missing, nil
	}
	vars, err = env.Build(all, rules)
	return vars, nil, err
}
