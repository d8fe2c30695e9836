package state

import (
	"fmt"

	"github.com/muster-dev/muster/pkg/api"
)

// casHolds is the condition of all cas verbs: with index 0 the thing must not exist,
// otherwise it must have that ModifyIndex.
func casHolds(exists bool, modifyIndex, want uint64) bool {
	return exists == (want != 0) && (!exists || modifyIndex == want)
}

func (x *tx) nodeOp(verb string, want *api.Node) (*api.Node, error) {
	old := x.node(want.Node)
	var have uint64
	if old != nil {
		have = old.ModifyIndex
	}
	switch verb {
	case "get":
		if old == nil {
			return nil, fmt.Errorf("node %q doesn't exist", want.Node)
		}
		return old, nil
	case "set", "cas":
		if verb == "cas" && !casHolds(old != nil, have, want.ModifyIndex) {
			return nil, fmt.Errorf("failed to set node %q, index is stale", want.Node)
		}
		if err := x.checkNode(want); err != nil {
			return nil, err
		}
		return x.putNode(want), nil
	case "delete", "delete-cas":
		if verb == "delete-cas" && (old == nil || have != want.ModifyIndex) {
			return nil, fmt.Errorf("failed to delete node %q, index is stale", want.Node)
		}
		if old != nil {
			x.deleteNode(old, false)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("unknown Node verb %q", verb)
}

func (x *tx) serviceOp(verb, node string, want *api.NodeService) (*api.NodeService, error) {
	n, old := x.node(node), x.instance(node, want.ID)
	var have uint64
	if old != nil {
		have = old.Service.ModifyIndex
	}
	switch verb {
	case "get":
		if old == nil {
			return nil, fmt.Errorf("service %q on node %q doesn't exist", want.ID, node)
		}
		return old.Service, nil
	case "set", "cas":
		if verb == "cas" && !casHolds(old != nil, have, want.ModifyIndex) {
			return nil, fmt.Errorf("failed to set service %q on node %q, index is stale", want.ID, node)
		}
		if n == nil {
			return nil, errMissingNode
		}
		return x.putInstance(n, want), nil
	case "delete", "delete-cas":
		if verb == "delete-cas" && (old == nil || have != want.ModifyIndex) {
			return nil, fmt.Errorf("failed to delete service %q on node %q, index is stale", want.ID, node)
		}
		if old != nil {
			x.deleteInstance(old)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("unknown Service verb %q", verb)
}

func (x *tx) checkOp(verb string, want *api.HealthCheck) (*api.HealthCheck, error) {
	n, old := x.node(want.Node), x.check(want.Node, want.CheckID)
	var have uint64
	if old != nil {
		have = old.ModifyIndex
	}
	switch verb {
	case "get":
		if old == nil {
			return nil, fmt.Errorf("check %q on node %q doesn't exist", want.CheckID, want.Node)
		}
		return old, nil
	case "set", "cas":
		if verb == "cas" && !casHolds(old != nil, have, want.ModifyIndex) {
			return nil, fmt.Errorf("failed to set check %q on node %q, index is stale", want.CheckID, want.Node)
		}
		if n == nil {
			return nil, errMissingNode
		}
		var svc *api.NodeService
		if want.ServiceID != "" {
			i := x.instance(n.Node, want.ServiceID)
			if i == nil {
				return nil, unknownService(want)
			}
			svc = i.Service
		}
		return x.putCheck(n, svc, want), nil
	case "delete", "delete-cas":
		if verb == "delete-cas" && (old == nil || have != want.ModifyIndex) {
			return nil, fmt.Errorf("failed to delete check %q on node %q, index is stale", want.CheckID, want.Node)
		}
		if old != nil {
			x.deleteCheck(old)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("unknown Check verb %q", verb)
}
