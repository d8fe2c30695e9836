package httpapi

import (
	"net/http"

	"github.com/muster-dev/muster/pkg/agent/acl"
	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// This file says what each route needs to be allowed. What cannot be read of a request
// needs nothing: its handler refuses it.

// anybody may ask, with whatever token.
func anybody(*request) []acl.Need { return nil }

// rows needs nothing as a whole: each row of the answer, each query of a subscription,
// is shown to whom it may be shown.
func rows(*request) []acl.Need { return nil }

// agents are who asks on the server port: TLS says who they are.
func agents(*request) []acl.Need { return nil }

func one(resource acl.Resource, name string, access acl.Access) []acl.Need {
	return []acl.Need{{Resource: resource, Name: name, Access: access}}
}

func agentRead(rq *request) []acl.Need   { return one(acl.Agent, rq.api.cfg.NodeName, acl.Read) }
func agentWrite(rq *request) []acl.Need  { return one(acl.Agent, rq.api.cfg.NodeName, acl.Write) }
func operatorRead(*request) []acl.Need   { return one(acl.Operator, "", acl.Read) }
func operatorWrite(*request) []acl.Need  { return one(acl.Operator, "", acl.Write) }
func nodeRead(rq *request) []acl.Need    { return one(acl.Node, rq.name, acl.Read) }
func serviceRead(rq *request) []acl.Need { return one(acl.Service, rq.name, acl.Read) }
func eventWrite(rq *request) []acl.Need  { return one(acl.Event, rq.name, acl.Write) }

func ownNodeWrite(rq *request) []acl.Need { return one(acl.Node, rq.api.cfg.NodeName, acl.Write) }

// ownServiceRead and ownServiceWrite are for a service of this agent by its id.
func ownServiceRead(rq *request) []acl.Need { return ownService(rq, rq.name, acl.Read) }

func ownServiceWrite(rq *request) []acl.Need { return ownService(rq, rq.name, acl.Write) }

func ownService(rq *request, id string, access acl.Access) []acl.Need {
	svc := rq.api.cfg.Local.Services()[id]
	if svc == nil {
		return nil
	}
	return one(acl.Service, svc.Service, access)
}

// ownCheckWrite is for a check of this agent by its id: of a service, or the node's.
func ownCheckWrite(rq *request) []acl.Need {
	c := rq.api.cfg.Local.Checks()[rq.name]
	switch {
	case c == nil:
		return nil
	case c.ServiceID == "":
		return ownNodeWrite(rq)
	}
	return one(acl.Service, c.ServiceName, acl.Write)
}

// registersService needs the new name and, over another service of that id, the old one.
func registersService(rq *request) []acl.Need {
	var reg api.AgentServiceRegistration
	if decode(rq.body, serviceShape, &reg) != nil {
		return nil
	}
	id := reg.ID
	if id == "" {
		id = reg.Name
	}
	needs := one(acl.Service, reg.Name, acl.Write)
	if svc := rq.api.cfg.Local.Services()[id]; svc != nil && svc.Service != reg.Name {
		needs = append(needs, one(acl.Service, svc.Service, acl.Write)...)
	}
	return needs
}

func registersCheck(rq *request) []acl.Need {
	var def api.CheckDefinition
	if decode(rq.body, checkShape, &def) != nil {
		return nil
	}
	if def.ServiceID == "" {
		return ownNodeWrite(rq)
	}
	return ownService(rq, def.ServiceID, acl.Write)
}

// registers is for catalog/register: the node, and each service it names.
func registers(rq *request) []acl.Need {
	var reg api.CatalogRegistration
	if decode(rq.body, catalogShape, &reg) != nil {
		return nil
	}
	needs := one(acl.Node, reg.Node, acl.Write)
	if reg.Service != nil {
		needs = append(needs, one(acl.Service, reg.Service.Service, acl.Write)...)
	}
	for _, c := range append(reg.Checks, reg.Check) {
		if c != nil && c.ServiceID != "" {
			needs = append(needs, serviceOn(rq, reg.Node, c.ServiceID, acl.Write)...)
		}
	}
	return needs
}

// deregisters is for catalog/deregister: the node, or the service that goes.
func deregisters(rq *request) []acl.Need {
	var dereg api.CatalogDeregistration
	if decode(rq.body, deregisterShape, &dereg) != nil {
		return nil
	}
	needs := one(acl.Node, dereg.Node, acl.Write)
	if svc := serviceOn(rq, dereg.Node, dereg.ServiceID, acl.Write); svc != nil {
		needs[0].Or = &svc[0]
	}
	return needs
}

// serviceOn is for a service of the catalog; nothing where there is none of that id.
func serviceOn(rq *request, node, id string, access acl.Access) []acl.Need {
	sn := rq.snapshot()
	if sn == nil || id == "" {
		return nil
	}
	services, _ := sn.NodeServices(node)
	if services == nil || services.Services[id] == nil {
		return nil
	}
	return one(acl.Service, services.Services[id].Service, access)
}

// snapshot is the replicated state; nil on a client agent.
func (rq *request) snapshot() *state.Snapshot {
	if rq.api.cfg.Cluster == nil {
		return nil
	}
	return rq.api.cfg.Cluster.Views().Snapshot()
}

// keys is for the key/value store. Lists of keys are filtered.
func keys(rq *request) []acl.Need {
	tree := rq.has("recurse") || rq.has("keys") || rq.has(changesSince)
	switch {
	case rq.r.Method == http.MethodGet && tree:
		return nil
	case rq.r.Method == http.MethodGet:
		return one(acl.Key, rq.name, acl.Read)
	}
	return []acl.Need{{Resource: acl.Key, Name: rq.name, Access: acl.Write, Prefix: rq.r.Method == http.MethodDelete && rq.has("recurse")}}
}

func createsSession(rq *request) []acl.Need {
	s, err := decodeSession(rq.body)
	if err != nil {
		return nil
	}
	return one(acl.Session, s.Node, acl.Write)
}

// sessionWrite is for a session by its id; it is its node's.
func sessionWrite(rq *request) []acl.Need {
	sn := rq.snapshot()
	if sn == nil {
		return nil
	}
	s, _ := sn.Session(rq.name)
	if s == nil {
		return nil
	}
	return one(acl.Session, s.Node, acl.Write)
}

// operations is for a transaction: what each of its operations needs.
func operations(rq *request) (needs []acl.Need) {
	ops, err := rq.api.decodeTxn(rq.body)
	if err != nil {
		return nil
	}
	for _, op := range ops {
		switch {
		case op.KV != nil:
			n := acl.Need{Resource: acl.Key, Name: op.KV.Key, Access: acl.Write, Prefix: op.KV.Verb == "delete-tree"}
			switch op.KV.Verb {
			case "get-tree":
				continue // filtered
			case "get", "get-or-empty", "check-index", "check-session":
				n.Access = acl.Read
			}
			needs = append(needs, n)
		case op.Node != nil:
			needs = append(needs, one(acl.Node, op.Node.Node.Node, verbAccess(op.Node.Verb))...)
		case op.Service != nil:
			needs = append(needs, one(acl.Service, op.Service.Service.Service, verbAccess(op.Service.Verb))...)
			needs = append(needs, serviceOn(rq, op.Service.Node, op.Service.Service.ID, verbAccess(op.Service.Verb))...)
		case op.Check.Check.ServiceID != "":
			needs = append(needs, serviceOn(rq, op.Check.Check.Node, op.Check.Check.ServiceID, verbAccess(op.Check.Verb))...)
		default:
			needs = append(needs, one(acl.Node, op.Check.Check.Node, verbAccess(op.Check.Verb))...)
		}
	}
	return needs
}

func verbAccess(verb string) acl.Access {
	if verb == "get" {
		return acl.Read
	}
	return acl.Write
}

// orders is for a job of remote execution: all its targets, and the job by its name.
func orders(rq *request) []acl.Need {
	var r api.ExecRequest
	if decode(rq.body, nil, &r) != nil {
		return nil
	}
	o, err := state.ReadOrder(r.Order)
	if err != nil {
		return nil
	}
	return orderNeeds(o, acl.Write)
}

func orderNeeds(o *api.ExecOrder, access acl.Access) (needs []acl.Need) {
	for _, node := range o.Targets {
		needs = append(needs, one(acl.Exec, node, access)...)
	}
	if o.Job != "" {
		needs = append(needs, one(acl.Job, o.Job, access)...)
	}
	return needs
}

// execRead and execWrite are for a job that was ordered.
func execRead(rq *request) []acl.Need  { return ordered(rq, acl.Read) }
func execWrite(rq *request) []acl.Need { return ordered(rq, acl.Write) }

func ordered(rq *request, access acl.Access) []acl.Need {
	sn := rq.snapshot()
	if sn == nil {
		return nil
	}
	j, _ := sn.Job(rq.name)
	if j == nil || j.Request == nil {
		return nil
	}
	o, err := state.ReadOrder(j.Request.Order)
	if err != nil {
		return nil
	}
	return orderNeeds(o, access)
}
