package state

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// An instance is one service of one node, with its own checks in order of ids.
type instance struct {
	Node    string // in the spelling of the node record
	Service *api.NodeService
	Checks  []*api.HealthCheck `codec:"-"` // they are in the checks table
}

// Select narrows the instances of a service.
type Select struct {
	Tags     []string          // all of them, without regard to case
	NodeMeta map[string]string // all of it
	Passing  bool              // every check passes; HealthService only
}

func (r reader) instance(node, id string) *instance {
	return first[instance](r, tableServices, "id", keyOf(strings.ToLower(node), id))
}

// instancesOf yields a node's services in order of ids.
func (r reader) instancesOf(node string) iter.Seq[*instance] {
	return scan[instance](r, tableServices, "id_prefix", nodeKey(node))
}

// instancesNamed yields a service's instances in order of nodes and ids.
func (r reader) instancesNamed(service string) iter.Seq[*instance] {
	return scan[instance](r, tableServices, "name", nodeKey(service))
}

// putInstance writes a service of a node. The service's checks get its name and tags.
func (x *tx) putInstance(n *api.Node, want *api.NodeService) *api.NodeService {
	svc := *want
	normalizeService(&svc)
	svc.CreateIndex, svc.ModifyIndex = x.Index, x.Index
	old := x.instance(n.Node, svc.ID)
	updated := &instance{Node: n.Node, Service: &svc}
	if old != nil {
		updated.Checks = old.Checks
		svc.CreateIndex, svc.ModifyIndex = old.Service.CreateIndex, old.Service.ModifyIndex
		if reflect.DeepEqual(&svc, old.Service) {
			return old.Service
		}
		svc.ModifyIndex = x.Index
	}
	if x.insertInstance(old, updated) {
		x.touch(topicServices, "")
	}
	x.touchInstance(old)
	x.touchInstance(updated)
	if old != nil && (old.Service.Service != svc.Service || !slices.Equal(old.Service.Tags, svc.Tags)) {
		for _, c := range updated.Checks {
			x.putCheck(n, &svc, c)
		}
	}
	return &svc
}

// insertInstance writes the row and counts it. It returns whether the list of services
// with their tags has changed.
func (x *tx) insertInstance(old, updated *instance) (changed bool) {
	if old == nil {
		x.stats.Instances++
	} else {
		x.deleteRow(old)
	}
	if first[instance](x.reader, tableServices, "name", nodeKey(updated.Service.Service)) == nil {
		x.stats.Services++
	}
	x.insert(tableServices, updated)
	return x.countTags(old, updated)
}

// deleteRow removes the row and touches nothing.
func (x *tx) deleteRow(i *instance) {
	x.delete(tableServices, i)
	if first[instance](x.reader, tableServices, "name", nodeKey(i.Service.Service)) == nil {
		x.stats.Services--
	}
}

func (x *tx) deleteInstance(i *instance) {
	for _, c := range i.Checks {
		x.deleteCheck(c)
	}
	x.deleteRow(i)
	if x.countTags(i, nil) {
		x.touch(topicServices, "")
	}
	x.stats.Instances--
	x.touchInstance(i)
}

func (x *tx) touchInstance(i *instance) {
	if i == nil {
		return
	}
	name := strings.ToLower(i.Service.Service)
	x.touch(topicInstances, "")
	x.touch(topicNodeServices, strings.ToLower(i.Node))
	x.touch(topicService, name)
	x.recheck(topicServiceHealth, name)
	x.recheck(topicServiceChecks, name)
}

// normalizeService sets the defaults of omitted fields.
func normalizeService(s *api.NodeService) {
	if len(s.Tags) == 0 {
		s.Tags = []string{}
	}
	if s.Weights == (api.Weights{}) {
		s.Weights = api.Weights{Passing: 1, Warning: 1}
	}
	s.Meta, s.TaggedAddresses = nilIfEmpty(s.Meta), nilIfEmpty(s.TaggedAddresses)
	s.PeerName = ""
}

// Services returns the names of all services, each with its distinct tags in
// order. With nodeMeta it counts only instances on nodes whose Meta contains it.
func (sn *Snapshot) Services(nodeMeta map[string]string) (map[string][]string, Meta) {
	r := sn.read()
	if len(nodeMeta) == 0 {
		return r.servicesWithTags(), r.meta(watchTopic(topicServices))
	}
	tags := map[string]map[string]struct{}{}
	nodes := r.nodeCache()
	for i := range scan[instance](r, tableServices, "id_prefix", nil) {
		if !hasMeta(nodes.get(i.Node).Node, nodeMeta) {
			continue
		}
		have := tags[i.Service.Service]
		if have == nil {
			have = map[string]struct{}{}
			tags[i.Service.Service] = have
		}
		for _, t := range i.Service.Tags {
			have[t] = struct{}{}
		}
	}
	out := make(map[string][]string, len(tags))
	for name, have := range tags {
		out[name] = slices.Sorted(maps.Keys(have))
		if out[name] == nil {
			out[name] = []string{}
		}
	}
	return out, r.meta(watchTopic(topicInstances), watchTopic(topicNodeMeta))
}

// ServiceNodes returns the instances of a service, in order of nodes and ids,
// each joined with its node.
func (sn *Snapshot) ServiceNodes(name string, sel Select) ([]*api.ServiceNode, Meta) {
	r := sn.read()
	var found []*instance
	var nodes []*api.Node
	cache := r.nodeCache()
	for i := range r.instancesNamed(name) {
		if n := cache.get(i.Node).Node; sel.matches(n, i.Service) {
			found, nodes = append(found, i), append(nodes, n)
		}
	}
	rows := make([]api.ServiceNode, len(found))
	out := make([]*api.ServiceNode, len(found))
	for k, i := range found {
		rows[k] = joinService(nodes[k], i.Service)
		out[k] = &rows[k]
	}
	return out, r.meta(watchName(topicService, name))
}

// ServiceByAddress returns the first instance, by node and id, that was
// registered with this address, or nil.
func (sn *Snapshot) ServiceByAddress(ip string) (*api.ServiceNode, Meta) {
	r := sn.read()
	meta := r.meta(watchTopic(topicInstances), watchTopic(topicNodes))
	i := first[instance](r, tableServices, "address", keyOf(canonicalIP(ip)))
	if i == nil {
		return nil, meta
	}
	row := joinService(r.node(i.Node), i.Service)
	return &row, meta
}

func joinService(n *api.Node, s *api.NodeService) api.ServiceNode {
	meta := s.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	return api.ServiceNode{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter,
		TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		ServiceKind: s.Kind, ServiceID: s.ID, ServiceName: s.Service, ServiceTags: s.Tags,
		ServiceAddress: s.Address, ServiceTaggedAddresses: s.TaggedAddresses,
		ServiceWeights: s.Weights, ServiceMeta: meta, ServicePort: s.Port,
		ServiceSocketPath: s.SocketPath, ServiceEnableTagOverride: s.EnableTagOverride,
		CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex,
	}
}

func (sel Select) matches(n *api.Node, s *api.NodeService) bool {
	for _, want := range sel.Tags {
		if !slices.ContainsFunc(s.Tags, func(t string) bool { return strings.EqualFold(t, want) }) {
			return false
		}
	}
	return hasMeta(n, sel.NodeMeta)
}

// nodeCache keeps the last node, for a scan in which the rows of a node are adjacent.
type nodeCache struct {
	r    reader
	name string
	row  *nodeRow
}

func (r reader) nodeCache() *nodeCache { return &nodeCache{r: r} }

func (c *nodeCache) get(name string) *nodeRow {
	if c.row == nil || c.name != name {
		c.name, c.row = name, c.r.nodeRow(name)
	}
	return c.row
}
