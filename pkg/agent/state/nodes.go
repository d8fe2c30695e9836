package state

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// minIDPrefix is the shortest node id prefix that finds a node.
const minIDPrefix = 2

// nodeRow is a node with its own checks, those of no service, in order of ids.
type nodeRow struct {
	Node   *api.Node
	Checks []*api.HealthCheck
}

func (r reader) nodeRow(name string) *nodeRow {
	return first[nodeRow](r, tableNodes, "id", nodeKey(name))
}

func (r reader) node(name string) *api.Node { return r.nodeRow(name).node() }

func (r reader) nodeByID(id string) *api.Node {
	if id == "" {
		return nil
	}
	return first[nodeRow](r, tableNodes, "uuid", optional(strings.ToLower(id))).node()
}

func (row *nodeRow) node() *api.Node {
	if row == nil {
		return nil
	}
	return row.Node
}

// checkNode returns an error if a node may not be registered as want. An id belongs to
// one name and a name to one id, unless the serfHealth of the other node is critical:
// then that node was renamed, or its machine was replaced.
func (r reader) checkNode(want *api.Node) error {
	if want.ID == "" {
		return nil
	}
	if err := checkUUID(want.ID); err != nil {
		return fmt.Errorf("Bad node ID: %w", err)
	}
	byID, byName := r.nodeByID(want.ID), r.node(want.Node)
	if byID != nil && !sameName(byID.Node, want.Node) && !r.serfCritical(byID) {
		return identityError(want, byID)
	}
	if byName != nil && byName.ID != "" && !sameName(byName.ID, want.ID) && !r.serfCritical(byName) {
		return identityError(want, byName)
	}
	return nil
}

func identityError(want, holder *api.Node) error {
	return fmt.Errorf("failed inserting node: Error while renaming Node ID: %q: Node name %s is reserved by node %s with name %s (%s)",
		want.ID, want.Node, holder.ID, holder.Node, holder.Address)
}

func (r reader) serfCritical(n *api.Node) bool {
	c := r.check(n.Node, api.SerfHealthID)
	return c != nil && c.Status == api.HealthCritical
}

// checkUUID accepts 36 characters: hex digits in groups of 8, 4, 4, 4 and 12.
func checkUUID(id string) error {
	if len(id) != 36 {
		return fmt.Errorf("uuid string is wrong length")
	}
	for i, c := range []byte(id) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash != (c == '-') || !dash && !hex {
			return fmt.Errorf("uuid is improperly formatted")
		}
	}
	return nil
}

// putNode writes the node record; the caller has called checkNode. A node keeps the
// first spelling of its name, and its id if want has none. If the node was renamed,
// everything under the old name is removed: its agent registers its services again.
func (x *tx) putNode(want *api.Node) *api.Node {
	n := &api.Node{
		ID: want.ID, Node: want.Node, Address: want.Address, Datacenter: want.Datacenter,
		TaggedAddresses: nilIfEmpty(want.TaggedAddresses), Meta: nilIfEmpty(want.Meta),
		CreateIndex: x.Index, ModifyIndex: x.Index,
	}
	if holder := x.nodeByID(want.ID); holder != nil && !sameName(holder.Node, want.Node) {
		x.deleteNode(holder, true)
	}
	row := x.nodeRow(want.Node)
	old, updated := row.node(), &nodeRow{Node: n}
	if old != nil {
		updated.Checks = row.Checks
		if n.ID == "" {
			n.ID = old.ID
		}
		n.Node, n.CreateIndex, n.ModifyIndex = old.Node, old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(n, old) {
			return old
		}
		n.ModifyIndex = x.Index
	} else {
		x.stats.Nodes++
	}
	x.insert(tableNodes, updated)
	x.touchNode(old, n)
	return n
}

// deleteNode removes a node with its services, checks and sessions; left is as in
// Deregister. Services go first, so that no service is touched by the node's checks.
func (x *tx) deleteNode(n *api.Node, left bool) {
	for i := range x.instancesOf(n.Node) {
		x.deleteInstance(i)
	}
	for c := range x.checksOf(n.Node) {
		x.deleteCheck(c)
	}
	x.endSessionsOfNode(n.Node, left)
	x.delete(tableNodes, &nodeRow{Node: n})
	x.stats.Nodes--
	x.touchNode(n, nil)
}

// touchNode touches everything that contains a node record; either side may be nil.
func (x *tx) touchNode(old, updated *api.Node) {
	n := updated
	if n == nil {
		n = old
	}
	name := strings.ToLower(n.Node)
	x.touch(topicNodes, "")
	x.touch(topicNode, name)
	x.recheck(topicNodeServices, name)
	x.recheck(topicNodeChecks, name)
	for i := range x.instancesOf(n.Node) {
		x.touch(topicService, strings.ToLower(i.Service.Service))
	}
	if old != nil && updated != nil && !maps.Equal(old.Meta, updated.Meta) {
		x.touch(topicNodeMeta, "")
	}
	if old != nil && updated != nil && sameName(old.ID, updated.ID) {
		return
	}
	for _, side := range []*api.Node{old, updated} {
		if side != nil && side.ID != "" {
			x.touch(topicNodeID, strings.ToLower(side.ID))
		}
	}
}

// findNode finds a node by name, then by unique id prefix. It also returns what that
// was read from.
func (r reader) findNode(nameOrIDPrefix string) (*api.Node, []Watch) {
	watches := []Watch{watchName(topicNode, nameOrIDPrefix)}
	if n := r.node(nameOrIDPrefix); n != nil || len(nameOrIDPrefix) < minIDPrefix {
		return n, watches
	}
	prefix := strings.ToLower(nameOrIDPrefix)
	watches = append(watches, Watch{Topic: topicNodeID, Key: prefix, Prefix: true})
	var found *api.Node
	for row := range scan[nodeRow](r, tableNodes, "uuid_prefix", []byte(prefix)) {
		if found != nil {
			return nil, watches
		}
		found = row.Node
	}
	if found != nil {
		watches = append(watches, watchName(topicNode, found.Node))
	}
	return found, watches
}

// Nodes returns the nodes whose Meta holds all of nodeMeta, in order of names.
func (sn *Snapshot) Nodes(nodeMeta map[string]string) ([]*api.Node, Meta) {
	r := sn.read()
	nodes := []*api.Node{}
	for row := range scan[nodeRow](r, tableNodes, "id_prefix", nil) {
		if hasMeta(row.Node, nodeMeta) {
			nodes = append(nodes, row.Node)
		}
	}
	return nodes, r.meta(watchTopic(topicNodes))
}

// Node returns the node of this name, or the only one whose id has this prefix, or nil.
func (sn *Snapshot) Node(nameOrIDPrefix string) (*api.Node, Meta) {
	r := sn.read()
	n, watches := r.findNode(nameOrIDPrefix)
	return n, r.meta(watches...)
}

// NodeServices returns a node, found as Node does, with its services; nil if
// there is none.
func (sn *Snapshot) NodeServices(nameOrIDPrefix string) (*api.NodeServices, Meta) {
	r := sn.read()
	n, watches := r.findNode(nameOrIDPrefix)
	if n == nil {
		return nil, r.meta(watches...)
	}
	out := &api.NodeServices{Node: n, Services: map[string]*api.NodeService{}}
	for i := range r.instancesOf(n.Node) {
		out.Services[i.Service.ID] = i.Service
	}
	return out, r.meta(append(watches, watchName(topicNodeServices, n.Node))...)
}

// NodeByAddress returns the first node, by name, with this address, or nil.
func (sn *Snapshot) NodeByAddress(ip string) (*api.Node, Meta) {
	r := sn.read()
	return first[nodeRow](r, tableNodes, "address", keyOf(canonicalIP(ip))).node(), r.meta(watchTopic(topicNodes))
}

// canonicalIP returns the canonical form of an IP address, and other strings as they
// are.
func canonicalIP(s string) string {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String()
	}
	return s
}

// sameName compares as the tables do. strings.EqualFold folds more characters.
func sameName(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b
}

func hasMeta(n *api.Node, want map[string]string) bool {
	for k, v := range want {
		if have, ok := n.Meta[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// nilIfEmpty makes an empty map nil, so that both read back the same.
func nilIfEmpty[V any](m map[string]V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	return m
}
