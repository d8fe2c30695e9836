package httpapi

import (
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/agent/view"
	"github.com/muster-dev/muster/pkg/api"
)

func serverError(format string, args ...any) error {
	return api.Errorf(http.StatusInternalServerError, format, args...)
}

func (a *API) catalogRegister(rq *request) (any, error) {
	var reg api.CatalogRegistration
	if err := decode(rq.body, catalogShape, &reg); err != nil {
		return nil, err
	}
	if err := a.checkDatacenter(reg.Datacenter); err != nil {
		return nil, err
	}
	if reg.Check != nil {
		reg.Checks = append(reg.Checks, reg.Check)
	}
	for _, c := range reg.Checks {
		if c != nil && c.CheckID == "" {
			c.CheckID = c.Name
		}
	}
	// What is wrong with it beyond its form, the command itself says.
	cmd := &state.Register{
		Node: &api.Node{
			ID: reg.ID, Node: reg.Node, Address: reg.Address, Datacenter: a.cfg.Datacenter,
			TaggedAddresses: reg.TaggedAddresses, Meta: reg.NodeMeta,
		},
		SkipNodeUpdate: reg.SkipNodeUpdate,
		Service:        reg.Service,
		Checks:         reg.Checks,
	}
	if _, err := a.propose(rq, cmd, ""); err != nil {
		return nil, err
	}
	return true, nil
}

func (a *API) catalogDeregister(rq *request) (any, error) {
	var dereg api.CatalogDeregistration
	if err := decode(rq.body, deregisterShape, &dereg); err != nil {
		return nil, err
	}
	if err := a.checkDatacenter(dereg.Datacenter); err != nil {
		return nil, err
	}
	if dereg.Node == "" {
		return nil, serverError("Must provide node")
	}
	cmd := &state.Deregister{Node: dereg.Node, ServiceID: dereg.ServiceID, CheckID: dereg.CheckID}
	if _, err := a.propose(rq, cmd, ""); err != nil {
		return nil, err
	}
	return true, nil
}

// catalogDatacenters is ours alone: there is no pool that spans several yet. The
// consistency that is asked for changes nothing, but must make sense.
func (a *API) catalogDatacenters(rq *request) (any, error) {
	if err := rq.parseMode(); err != nil {
		return nil, err
	}
	return []string{a.cfg.Datacenter}, nil
}

func (a *API) catalogNodes(rq *request) (any, error) {
	keep, err := filterFor[*api.Node](rq)
	if err != nil {
		return nil, err
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		nodes, meta := sn.Nodes(rq.nodeMeta)
		return view.Answer{Value: keep.rows(nodes), Meta: meta}
	})
}

func (a *API) catalogServices(rq *request) (any, error) {
	keep, err := filterFor[*api.ServiceNode](rq)
	if err != nil {
		return nil, err
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		services, meta := sn.Services(rq.nodeMeta)
		if keep != nil {
			services, meta = filterServices(sn, rq.nodeMeta, services, meta, keep)
		}
		if services == nil {
			services = map[string][]string{}
		}
		return view.Answer{Value: services, Meta: meta}
	})
}

// filterServices keeps the services of which the filter keeps an instance, with
// the tags of those instances. The answer is then read from all of them.
func filterServices(sn *state.Snapshot, nodeMeta map[string]string, all map[string][]string, meta state.Meta,
	keep *filter[*api.ServiceNode]) (map[string][]string, state.Meta) {
	out := map[string][]string{}
	for name := range all {
		rows, m := sn.ServiceNodes(name, state.Select{NodeMeta: nodeMeta})
		meta.Index = max(meta.Index, m.Index)
		meta.Watch = append(meta.Watch[:len(meta.Watch):len(meta.Watch)], m.Watch...)
		rows = keep.rows(rows)
		if len(rows) == 0 {
			continue
		}
		seen, tags := map[string]bool{}, []string{}
		for _, row := range rows {
			for _, tag := range row.ServiceTags {
				if !seen[tag] {
					seen[tag] = true
					tags = append(tags, tag)
				}
			}
		}
		out[name] = tags
	}
	return out, meta
}

func (a *API) catalogService(rq *request) (any, error) {
	if rq.name == "" {
		return nil, badRequest("Missing service name")
	}
	keep, err := filterFor[*api.ServiceNode](rq)
	if err != nil {
		return nil, err
	}
	sel := state.Select{Tags: rq.tags(), NodeMeta: rq.nodeMeta}
	return asks(func(sn *state.Snapshot) view.Answer {
		rows, meta := sn.ServiceNodes(rq.name, sel)
		return view.Answer{Value: keep.rows(rows), Meta: meta}
	})
}

// tags are the ?tag parameters; an empty one asks for nothing.
func (rq *request) tags() []string {
	var tags []string
	for _, tag := range rq.values["tag"] {
		if tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

var errMissingNode = badRequest("Missing node name")

func (a *API) catalogNode(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingNode
	}
	keep, err := filterFor[*api.NodeService](rq)
	if err != nil {
		return nil, err
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		node, meta := sn.NodeServices(rq.name)
		if node == nil {
			return view.Answer{Value: (*api.NodeServices)(nil), Meta: meta, Missing: true}
		}
		shown := &api.NodeServices{Node: node.Node, Services: map[string]*api.NodeService{}}
		for id, svc := range node.Services {
			if keep.one(svc) {
				shown.Services[id] = svc
			}
		}
		return view.Answer{Value: shown, Meta: meta}
	})
}

func (a *API) catalogNodeServices(rq *request) (any, error) {
	if rq.name == "" {
		return nil, errMissingNode
	}
	keep, err := filterFor[*api.NodeService](rq)
	if err != nil {
		return nil, err
	}
	return asks(func(sn *state.Snapshot) view.Answer {
		node, meta := sn.NodeServices(rq.name)
		if node == nil {
			return view.Answer{Value: api.NodeServiceList{}, Meta: meta, Missing: true}
		}
		shown := api.NodeServiceList{Node: node.Node}
		for _, id := range sortedKeys(node.Services) {
			if svc := node.Services[id]; keep.one(svc) {
				shown.Services = append(shown.Services, svc)
			}
		}
		return view.Answer{Value: shown, Meta: meta}
	})
}
