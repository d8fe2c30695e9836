package funcs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/query"
)

// CatalogSnippet is one service of the catalog, as services lists it.
type CatalogSnippet struct {
	Name string
	Tags ServiceTags
}

// Node is one machine.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
}

// CatalogNode is a machine with its services. Node is nil if there is no such
// machine.
type CatalogNode struct {
	Node     *Node
	Services []*CatalogNodeService
}

// CatalogNodeService is a service of a CatalogNode.
type CatalogNodeService struct {
	ID                string
	Service           string
	Tags              ServiceTags
	Meta              map[string]string
	Port              int
	Address           string
	EnableTagOverride bool
}

func (p *pass) services(args ...string) ([]*CatalogSnippet, error) {
	out := []*CatalogSnippet{}
	q, _, err := query.ParseFilter(query.KindServices, "catalog.services", strings.Join(args, ""))
	if err != nil {
		return out, err
	}
	byName, _, err := lookup[map[string][]string](p, q)
	listed := make(map[string]*CatalogSnippet, len(byName))
	for _, name := range sortedKeys(byName) {
		listed[name] = p.memo.snippet(name, sortedTags(byName[name]))
		out = append(out, listed[name])
	}
	p.memo.listed = listed
	p.listed = append(p.listed, listed)
	return out, err
}

// node returns nil only while the answer is not known yet.
func (p *pass) node(args ...string) (*CatalogNode, error) {
	q, _, err := query.ParseFilter(query.KindNode, "catalog.node", strings.Join(args, ""))
	if err != nil {
		return nil, err
	}
	found, ok, err := lookup[*api.NodeServices](p, q)
	if err != nil || !ok {
		return nil, err
	}
	if found == nil || found.Node == nil {
		return &CatalogNode{}, nil
	}
	out := &CatalogNode{Node: newNode(found.Node), Services: []*CatalogNodeService{}}
	for _, s := range found.Services {
		out.Services = append(out.Services, &CatalogNodeService{
			ID: s.ID, Service: s.Service, Tags: sortedTags(s.Tags), Meta: maps.Clone(s.Meta),
			Port: s.Port, Address: s.Address, EnableTagOverride: s.EnableTagOverride,
		})
	}
	slices.SortFunc(out.Services, func(a, b *CatalogNodeService) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (p *pass) nodes(args ...string) ([]*Node, error) {
	out := []*Node{}
	q, _, err := query.ParseFilter(query.KindNodes, "catalog.nodes", strings.Join(args, ""))
	if err != nil {
		return out, err
	}
	nodes, _, err := lookup[[]*api.Node](p, q)
	for _, n := range nodes {
		out = append(out, newNode(n))
	}
	if q.Near == "" {
		slices.SortStableFunc(out, func(a, b *Node) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Address, b.Address))
		})
	}
	return out, err
}

func (p *pass) datacenters(ignoreFailing ...bool) ([]string, error) {
	if len(ignoreFailing) > 1 {
		return nil, fmt.Errorf("datacenters: wrong number of arguments, expected 0 or 1, but got %d", len(ignoreFailing))
	}
	q := query.Query{Kind: query.KindDatacenters, IgnoreFailing: len(ignoreFailing) == 1 && ignoreFailing[0]}
	names, _, err := lookup[[]string](p, q)
	out := append([]string{}, names...)
	slices.Sort(out)
	return out, err
}

func newNode(n *api.Node) *Node {
	return &Node{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter,
		TaggedAddresses: maps.Clone(n.TaggedAddresses), Meta: maps.Clone(n.Meta),
	}
}
