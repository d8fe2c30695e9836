package state

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
)

// The queries of the model.

func sorted[K cmp.Ordered, V any](m map[K]V, pick func(V) bool) []V {
	out := []V{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if pick(m[k]) {
			out = append(out, m[k])
		}
	}
	return out
}

// sortedPairs is sorted for keys of node and id.
func sortedPairs[V any](m map[[2]string]V, pick func(V) bool) []V {
	out := []V{}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, k := range keys {
		if pick(m[k]) {
			out = append(out, m[k])
		}
	}
	return out
}

func (m *model) findNode(q string) any {
	if n, ok := m.nodes[strings.ToLower(q)]; ok {
		return n
	}
	found := sorted(m.nodes, func(n api.Node) bool { return len(q) >= 2 && n.ID != "" && strings.HasPrefix(n.ID, q) })
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

func (m *model) nodeServices(q string) any {
	n, ok := m.findNode(q).(api.Node)
	if !ok {
		return nil
	}
	out := api.NodeServices{Node: &n, Services: map[string]*api.NodeService{}}
	for _, s := range m.services {
		if strings.EqualFold(s.node, n.Node) {
			out.Services[s.ID] = &s.NodeService
		}
	}
	return out
}

func hasAll(have, want map[string]string) bool {
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			return false
		}
	}
	return true
}

func (m *model) servicesMap(meta map[string]string) any {
	out := map[string][]string{}
	for _, s := range m.services {
		if !hasAll(m.nodes[strings.ToLower(s.node)].Meta, meta) {
			continue
		}
		tags := append(out[s.Service], s.Tags...)
		slices.Sort(tags)
		out[s.Service] = append([]string{}, slices.Compact(tags)...)
	}
	return out
}

func (m *model) health(name string, sel Select) (out []api.CheckServiceNode) {
	out = []api.CheckServiceNode{}
	for _, s := range sortedPairs(m.services, func(s modelService) bool { return strings.EqualFold(s.Service, name) }) {
		n := m.nodes[strings.ToLower(s.node)]
		row := api.CheckServiceNode{Node: &n, Service: &s.NodeService, Checks: []*api.HealthCheck{}}
		keep := hasAll(n.Meta, sel.NodeMeta)
		for _, t := range sel.Tags {
			keep = keep && slices.Contains(s.Tags, t)
		}
		for _, scope := range []string{"", s.ID} {
			for _, c := range sortedPairs(m.checks, func(c api.HealthCheck) bool { return c.Node == s.node && c.ServiceID == scope }) {
				row.Checks = append(row.Checks, &c)
				keep = keep && !(sel.Passing && c.Status != "passing")
			}
		}
		if keep {
			out = append(out, row)
		}
	}
	return out
}

func (m *model) serviceNodes(name string) []api.ServiceNode {
	out := []api.ServiceNode{}
	for _, row := range m.health(name, Select{}) {
		out = append(out, joinService(row.Node, row.Service))
	}
	return out
}

func (m *model) checksWhere(meta map[string]string, pick func(api.HealthCheck) bool) any {
	return sortedPairs(m.checks, func(c api.HealthCheck) bool {
		return pick(c) && hasAll(m.nodes[strings.ToLower(c.Node)].Meta, meta)
	})
}

func (m *model) keys(prefix, separator string) any {
	var out []string
	for _, e := range m.list(prefix) {
		key := e.Key
		if i := strings.Index(key[len(prefix):], separator); separator != "" && i >= 0 {
			key = key[:len(prefix)+i+len(separator)]
		}
		out = append(out, key)
	}
	return append([]string{}, slices.Compact(out)...)
}

func (m *model) list(prefix string) []api.KVPair {
	return sorted(m.kv, func(e api.KVPair) bool { return strings.HasPrefix(e.Key, prefix) })
}
