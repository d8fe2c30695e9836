package state

import (
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// stateAny selects the checks in all states.
const stateAny = "any"

func (r reader) check(node, id string) *api.HealthCheck {
	return first[api.HealthCheck](r, tableChecks, "id", keyOf(strings.ToLower(node), id))
}

// checksOf yields all checks of a node in order of ids.
func (r reader) checksOf(node string) iter.Seq[*api.HealthCheck] {
	return scan[api.HealthCheck](r, tableChecks, "id_prefix", nodeKey(node))
}

func unknownService(c *api.HealthCheck) error {
	return fmt.Errorf("Unknown service ID '%s' for check ID '%s'", c.ServiceID, c.CheckID)
}

// putCheck writes a check of a node. svc is the service of the check, nil for none.
func (x *tx) putCheck(n *api.Node, svc *api.NodeService, want *api.HealthCheck) *api.HealthCheck {
	c := *want
	normalizeCheck(&c)
	c.Node = n.Node
	c.ServiceID, c.ServiceName, c.ServiceTags = "", "", []string{}
	if svc != nil {
		c.ServiceID, c.ServiceName, c.ServiceTags = svc.ID, svc.Service, svc.Tags
	}
	c.CreateIndex, c.ModifyIndex = x.Index, x.Index
	old := x.check(n.Node, c.CheckID)
	if old != nil {
		c.CreateIndex, c.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(&c, old) {
			return old
		}
		c.ModifyIndex = x.Index
	} else {
		x.stats.Checks++
	}
	x.insert(tableChecks, &c)
	x.linkCheck(old, &c)
	x.touchCheck(old)
	x.touchCheck(&c)
	if c.Status == api.HealthCritical {
		x.endSessionsOfCheck(&c)
	}
	return &c
}

func (x *tx) deleteCheck(c *api.HealthCheck) {
	x.delete(tableChecks, c)
	x.linkCheck(c, nil)
	x.stats.Checks--
	x.touchCheck(c)
	x.endSessionsOfCheck(c)
}

// linkCheck updates the lists of checks in instances and nodes when a check changes
// from old to updated; either may be nil. It returns false if the node or instance of
// updated does not exist.
func (x *tx) linkCheck(old, updated *api.HealthCheck) bool {
	if old != nil && (updated == nil || updated.ServiceID != old.ServiceID) {
		x.editChecks(old, func(list []*api.HealthCheck, at int) []*api.HealthCheck {
			return slices.Delete(list, at, at+1)
		})
	}
	return updated == nil || x.editChecks(updated, func(list []*api.HealthCheck, at int) []*api.HealthCheck {
		if at < len(list) && list[at].CheckID == updated.CheckID {
			list[at] = updated
			return list
		}
		return slices.Insert(list, at, updated)
	})
}

// editChecks edits a copy of the list of checks that c belongs to; at is its position.
func (x *tx) editChecks(c *api.HealthCheck, edit func(list []*api.HealthCheck, at int) []*api.HealthCheck) bool {
	edited := func(list []*api.HealthCheck) []*api.HealthCheck {
		at, _ := slices.BinarySearchFunc(list, c.CheckID, func(h *api.HealthCheck, id string) int { return strings.Compare(h.CheckID, id) })
		return edit(slices.Clone(list), at)
	}
	if c.ServiceID == "" {
		row := x.nodeRow(c.Node)
		if row == nil {
			return false
		}
		x.insert(tableNodes, &nodeRow{Node: row.Node, Checks: edited(row.Checks)})
		return true
	}
	i := x.instance(c.Node, c.ServiceID)
	if i == nil {
		return false
	}
	x.insert(tableServices, &instance{Node: i.Node, Service: i.Service, Checks: edited(i.Checks)})
	return true
}

// touchCheck touches everything that contains a check. One of a node is part of every
// service of the node.
func (x *tx) touchCheck(c *api.HealthCheck) {
	if c == nil {
		return
	}
	x.touch(topicChecks, "")
	x.touch(topicState, strings.ToLower(c.Status))
	x.touch(topicNodeChecks, strings.ToLower(c.Node))
	if c.ServiceID != "" {
		name := strings.ToLower(c.ServiceName)
		x.touch(topicServiceChecks, name)
		x.touch(topicServiceHealth, name)
		return
	}
	for i := range x.instancesOf(c.Node) {
		x.touch(topicServiceHealth, strings.ToLower(i.Service.Service))
	}
}

// normalizeCheck sets the defaults of omitted fields.
func normalizeCheck(c *api.HealthCheck) {
	if c.CheckID == "" {
		c.CheckID = c.Name
	}
	if c.Status == "" {
		c.Status = api.HealthCritical
	}
	if len(c.Definition.Header) == 0 {
		c.Definition.Header = nil
	}
	if c.Type == "" {
		switch d := c.Definition; {
		case d.HTTP != "":
			c.Type = "http"
		case d.TCP != "":
			c.Type = "tcp"
		case d.UDP != "":
			c.Type = "udp"
		}
	}
}

// HealthNode returns the checks of a node in order of ids.
func (sn *Snapshot) HealthNode(node string) ([]*api.HealthCheck, Meta) {
	r := sn.read()
	checks := []*api.HealthCheck{}
	for c := range r.checksOf(node) {
		checks = append(checks, c)
	}
	return checks, r.meta(watchName(topicNodeChecks, node))
}

// HealthChecks returns the checks of a service's instances, without those of
// their nodes, in order of nodes and ids.
func (sn *Snapshot) HealthChecks(service string, nodeMeta map[string]string) ([]*api.HealthCheck, Meta) {
	r := sn.read()
	checks := r.selectChecks(scan[api.HealthCheck](r, tableChecks, "service", nodeKey(service)), nodeMeta)
	if len(nodeMeta) > 0 {
		// The Meta of a node matters only if the service has an instance there.
		return checks, r.meta(watchName(topicServiceChecks, service), watchName(topicService, service))
	}
	return checks, r.meta(watchName(topicServiceChecks, service))
}

// HealthState returns the checks in a state, or in "any", in order of nodes and
// ids.
func (sn *Snapshot) HealthState(state string, nodeMeta map[string]string) ([]*api.HealthCheck, Meta) {
	r := sn.read()
	found, watches := scan[api.HealthCheck](r, tableChecks, "status", nodeKey(state)), []Watch{watchName(topicState, state)}
	if strings.EqualFold(state, stateAny) {
		found, watches = scan[api.HealthCheck](r, tableChecks, "id_prefix", nil), []Watch{watchTopic(topicChecks)}
	}
	if len(nodeMeta) > 0 {
		watches = append(watches, watchTopic(topicNodeMeta))
	}
	return r.selectChecks(found, nodeMeta), r.meta(watches...)
}

func (r reader) selectChecks(found iter.Seq[*api.HealthCheck], nodeMeta map[string]string) []*api.HealthCheck {
	checks := []*api.HealthCheck{}
	nodes := r.nodeCache()
	for c := range found {
		if len(nodeMeta) == 0 || hasMeta(nodes.get(c.Node).Node, nodeMeta) {
			checks = append(checks, c)
		}
	}
	return checks
}

// HealthService returns the instances of a service, in order of nodes and ids,
// each with its node and with all checks that determine its health: those of the
// node first.
func (sn *Snapshot) HealthService(name string, sel Select) ([]*api.CheckServiceNode, Meta) {
	r := sn.read()
	rows := []api.CheckServiceNode{}
	nodes := r.nodeCache()
	for i := range r.instancesNamed(name) {
		n := nodes.get(i.Node)
		if !sel.matches(n.Node, i.Service) || sel.Passing && !(allPass(n.Checks) && allPass(i.Checks)) {
			continue
		}
		rows = append(rows, api.CheckServiceNode{Node: n.Node, Service: i.Service, Checks: join(n.Checks, i.Checks)})
	}
	out := make([]*api.CheckServiceNode, len(rows))
	for k := range rows {
		out[k] = &rows[k]
	}
	return out, r.meta(watchName(topicService, name), watchName(topicServiceHealth, name))
}

func allPass(checks []*api.HealthCheck) bool {
	for _, c := range checks {
		if c.Status != api.HealthPassing {
			return false
		}
	}
	return true
}

// join concatenates two lists, without a copy if one is empty. The result is never
// nil.
func join(a, b []*api.HealthCheck) []*api.HealthCheck {
	switch {
	case len(b) == 0 && a != nil:
		return a
	case len(a) == 0 && b != nil:
		return b
	}
	return append(append(make([]*api.HealthCheck, 0, len(a)+len(b)), a...), b...)
}
