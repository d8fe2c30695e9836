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
	NodeDatacenter         string
	NodeTaggedAddresses    map[string]string
	NodeMeta               map[string]string
	ServiceMeta            map[string]string
	Address                string // of the service, else of its node
	ServiceTaggedAddresses map[string]api.ServiceAddress
	ID                     string
	Name                   string
	Tags                   ServiceTags
	Checks                 []*api.HealthCheck
	Status                 string // the worst of its checks
	Port                   int
	Weights                api.Weights
}

// service takes the filter as a part of its argument or as a second one.
func (p *pass) service(args ...string) ([]*HealthService, error) {
	if len(args) == 0 || args[0] == "" {
		return []*HealthService{}, nil
	}
	arg := strings.Join(args, "|")
	made := p.memo.service(arg)
	if made == nil {
		q, filters, err := query.ParseFilter(query.KindService, "health.service", arg)
		if err != nil {
			return []*HealthService{}, err
		}
		made = &madeServices{query: q, filters: filters}
		p.memo.used[arg] = made
	}
	instances, ok, err := lookup[[]*api.CheckServiceNode](p, made.query)
	if err != nil || !ok {
		return []*HealthService{}, err
	}
	if made.out == nil || !sameAnswer(made.from, instances) {
		made.from, made.out = instances, made.make(instances)
	}
	return slices.Clip(made.out), nil
}

// make picks and sorts the instances that the filters let through.
func (m *madeServices) make(instances []*api.CheckServiceNode) []*HealthService {
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
		Checks:                 slices.Clone(in.Checks),
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
