package funcs

import (
	"cmp"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// ServiceTags are the sorted tags of a service.
type ServiceTags []string

// Contains reports whether tag is among the tags.
func (t ServiceTags) Contains(tag string) bool { return slices.Contains(t, tag) }

// ContainsAll reports whether every tag given is among the tags.
func (t ServiceTags) ContainsAll(tags ...string) bool {
	return !slices.ContainsFunc(tags, func(tag string) bool { return !t.Contains(tag) })
}

// ContainsAny reports whether some tag given is among the tags.
func (t ServiceTags) ContainsAny(tags ...string) bool { return slices.ContainsFunc(tags, t.Contains) }

// ContainsNone reports whether no tag given is among the tags.
func (t ServiceTags) ContainsNone(tags ...string) bool { return !t.ContainsAny(tags...) }

// HealthService is one instance of a service.
type HealthService struct {
	Node                   string
	NodeID                 string
	NodeAddress            string
	NodeDatacenter         string `json:"-" toml:"-" yaml:"-"` // ours: not in what consul-template encodes
	NodeTaggedAddresses    map[string]string
	NodeMeta               map[string]string
	ServiceMeta            map[string]string
	Address                string // of the service, else of its node
	ServiceTaggedAddresses map[string]api.ServiceAddress
	ID                     string
	Name                   string
	Tags                   ServiceTags
	Checks                 HealthChecks
	Status                 string // the worst of its checks
	Port                   int
	Weights                api.Weights
}

// service takes the filter as a part of its argument or as a second one.
//
// "go.micro.api" means the instances of api that have the tag go.micro. Where there are
// none it means the service of that name: what services lists can be asked for.
func (p *pass) service(args ...string) ([]*HealthService, error) {
	if len(args) == 0 || args[0] == "" {
		return []*HealthService{}, nil
	}
	made, err := p.resolveArgument(strings.Join(args, "|"))
	if err != nil || made == nil {
		return []*HealthService{}, err
	}
	out, ok, err := p.instances(made)
	if err != nil || !ok || len(made.from) > 0 || made.query.Tag == "" {
		return out, err
	}
	if made.dotted == nil {
		named := made.query
		named.Name, named.Tag = named.Tag+"."+named.Name, ""
		made.dotted = &cachedServices{query: named, filters: made.filters}
	}
	out, _, err = p.instances(made.dotted)
	return out, err
}

// resolveArgument parses an argument of service. It returns nil while the result depends on
// an answer that is missing.
//
// A name from services may contain characters of the grammar. It is taken literally
// where the grammar gives no meaning: user@host, unless there is a datacenter host. A
// registration of such a name must not fail every template that shows all services, nor
// may web@dc2 replace the web of dc2.
func (p *pass) resolveArgument(arg string) (*cachedServices, error) {
	made, err := p.read(arg, arg, "")
	if err == nil && made.query.Datacenter == "" {
		return made, nil
	}
	name, filter, listed := p.listedName(arg)
	if !listed {
		return made, err
	}
	if err == nil {
		known, ok, err := lookup[[]string](p, query.Query{Kind: query.KindDatacenters})
		if err != nil || !ok {
			return nil, err
		}
		if slices.Contains(known, made.query.Datacenter) {
			return made, nil
		}
	}
	return p.read("\x00"+arg, "name"+filter, name)
}

// read parses arg, unless the memo has the entry; name, if it is not "", replaces the one
// in arg.
func (p *pass) read(entry, arg, name string) (*cachedServices, error) {
	if made := p.memo.service(entry); made != nil {
		return made, nil
	}
	q, filters, err := query.ParseFilter(query.KindService, "health.service", arg)
	if err != nil {
		return nil, err
	}
	if name != "" {
		q.Name = name
	}
	made := &cachedServices{query: q, filters: filters}
	p.memo.used[entry] = made
	return made, nil
}

// listedName reports whether arg, or what stands before the last | of it, is a name
// that services has listed.
func (p *pass) listedName(arg string) (name, filter string, is bool) {
	for _, end := range []int{len(arg), strings.LastIndexByte(arg, '|')} {
		for _, all := range p.listed {
			if end > 0 && all[arg[:end]] != nil {
				return arg[:end], arg[end:], true
			}
		}
	}
	return "", "", false
}

// instances looks up the instances of one query; ok is false if there is no answer yet.
func (p *pass) instances(made *cachedServices) (out []*HealthService, ok bool, err error) {
	instances, ok, err := lookup[[]*api.CheckServiceNode](p, made.query)
	if err != nil || !ok {
		return []*HealthService{}, false, err
	}
	if made.out == nil || !sameAnswer(made.from, instances) {
		made.from, made.out = instances, made.make(instances)
	}
	return slices.Clip(made.out), true, nil
}

// make selects the instances by the filters, and sorts them.
func (m *cachedServices) make(instances []*api.CheckServiceNode) []*HealthService {
	out := make([]*HealthService, 0, len(instances))
	everything := slices.Contains(m.filters, "any")
	for _, in := range instances {
		if in.Node == nil || in.Service == nil {
			continue
		}
		if status := api.AggregatedStatus(in.Checks); everything || slices.Contains(m.filters, status) {
			out = append(out, newHealthService(in, status))
		}
	}
	if m.query.Near == "" {
		slices.SortStableFunc(out, func(a, b *HealthService) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
		})
	}
	return out
}

// newHealthService shares the maps of the answer: a template cannot modify them, for
// the functions that change a map take none of this type.
func newHealthService(in *api.CheckServiceNode, status string) *HealthService {
	return &HealthService{
		Node:                   in.Node.Node,
		NodeID:                 in.Node.ID,
		NodeAddress:            in.Node.Address,
		NodeDatacenter:         in.Node.Datacenter,
		NodeTaggedAddresses:    in.Node.TaggedAddresses,
		NodeMeta:               in.Node.Meta,
		ServiceMeta:            in.Service.Meta,
		Address:                cmp.Or(in.Service.Address, in.Node.Address),
		ServiceTaggedAddresses: in.Service.TaggedAddresses,
		ID:                     in.Service.ID,
		Name:                   in.Service.Service,
		Tags:                   sortedTags(in.Service.Tags),
		Checks:                 healthChecks(in.Checks),
		Status:                 status,
		Port:                   in.Service.Port,
		Weights:                in.Service.Weights,
	}
}

// sortedTags are a copy, never nil: a list of tags prints as [].
func sortedTags(tags []string) ServiceTags {
	out := append(ServiceTags{}, tags...)
	slices.Sort(out)
	return out
}
