package state

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// model is the state machine again, as plainly as can be: maps, loops, copies,
// and no indexes but those on the records. It knows the rules of the API and
// nothing of tables, marks or snapshots.
type model struct {
	index    uint64
	kv       map[string]api.KVPair
	nodes    map[string]api.Node        // by lower-case name
	services map[[2]string]modelService // by lower-case node and id
	checks   map[[2]string]api.HealthCheck

	now      time.Time
	sessions map[string]api.Session
	tokens   map[string]uint64    // by held key
	delays   map[string]time.Time // by key: not to be locked before
	ends     map[string]time.Time // by key

	events []modelEvent // never changed in place
}

type modelService struct {
	node string
	api.NodeService
}

func newModel() *model {
	return &model{
		kv: map[string]api.KVPair{}, nodes: map[string]api.Node{},
		services: map[[2]string]modelService{}, checks: map[[2]string]api.HealthCheck{},
		sessions: map[string]api.Session{}, tokens: map[string]uint64{}, delays: map[string]time.Time{}, ends: map[string]time.Time{},
	}
}

func (m *model) clone() *model {
	return &model{
		m.index, maps.Clone(m.kv), maps.Clone(m.nodes), maps.Clone(m.services), maps.Clone(m.checks),
		m.now, maps.Clone(m.sessions), maps.Clone(m.tokens), maps.Clone(m.delays), maps.Clone(m.ends),
		slices.Clone(m.events),
	}
}

// apply returns what the command answers, errors as their texts.
func (m *model) apply(index uint64, now time.Time, cmd Command) any {
	m.index, m.now = index, now
	switch c := cmd.(type) {
	case *KV:
		return m.applyKV(c)
	case *Register:
		return m.register(c)
	case *Deregister:
		switch {
		case c.ServiceID != "":
			m.removeService(c.Node, c.ServiceID)
		case c.CheckID != "":
			m.removeChecks(func(k [2]string, _ api.HealthCheck) bool {
				return k == [2]string{strings.ToLower(c.Node), c.CheckID}
			})
		default:
			m.removeNode(c.Node, c.Left)
		}
		return nil
	case *Txn:
		return m.txn(c)
	case *SessionCreate:
		return m.sessionCreate(c.Session)
	case *SessionDestroy:
		_, ok := m.sessions[c.ID]
		m.endSession(c.ID)
		return ok
	case *Reap:
		m.reapEvents()
		return m.reap()
	case *EventFire:
		return m.eventFire(c)
	case *EventAck:
		return m.eventAck(c)
	}
	panic("unknown command")
}

func (m *model) applyKV(c *KV) any {
	e, ok := m.kv[c.Entry.Key]
	if f := c.Fence; f != nil && (m.tokens[f.Key] == 0 || m.tokens[f.Key] != f.Token) {
		return false
	}
	switch c.Op {
	case KVSet:
		m.set(c.Entry)
	case KVCAS:
		if c.Index == 0 && ok || c.Index != 0 && (!ok || e.ModifyIndex != c.Index) {
			return false
		}
		m.set(c.Entry)
	case KVLock:
		if _, ok := m.sessions[c.Entry.Session]; !ok {
			return fmt.Sprintf("invalid session %q", c.Entry.Session)
		}
		if m.lock(c.Entry) != "" {
			return false
		}
	case KVUnlock:
		if !m.unlock(c.Entry) {
			return false
		}
	case KVDelete:
		m.drop(c.Entry.Key)
		return true
	case KVDeleteCAS:
		if ok && e.ModifyIndex != c.Index {
			return false
		}
		m.drop(c.Entry.Key)
		return true
	case KVDeleteTree:
		for k := range m.kv {
			if strings.HasPrefix(k, c.Entry.Key) {
				m.drop(k)
			}
		}
		return true
	}
	if c.TTL > 0 {
		m.ends[c.Entry.Key] = m.now.Add(c.TTL)
	}
	if c.Op == KVLock {
		return Acquired(m.tokens[c.Entry.Key])
	}
	return true
}

func (m *model) set(want api.KVPair) {
	want.Session, want.LockIndex = m.kv[want.Key].Session, 0
	m.put(want)
}

// put writes an entry whole; what is not said to end does not end.
func (m *model) put(want api.KVPair) {
	delete(m.ends, want.Key)
	e, ok := m.kv[want.Key]
	if ok && string(e.Value) == string(want.Value) && e.Flags == want.Flags && e.Session == want.Session && e.LockIndex == want.LockIndex {
		return
	}
	want.CreateIndex, want.ModifyIndex = m.index, m.index
	if ok {
		want.CreateIndex = e.CreateIndex
	}
	if len(want.Value) == 0 {
		want.Value = nil
	}
	m.kv[want.Key] = want
}

func (m *model) drop(key string) {
	delete(m.kv, key)
	delete(m.tokens, key)
	delete(m.ends, key)
}

func (m *model) register(c *Register) any {
	try := m.clone()
	name := strings.ToLower(c.Node.Node)
	if _, ok := m.nodes[name]; !ok || !c.SkipNodeUpdate {
		if why := try.setNode(*c.Node); why != "" {
			return why
		}
	}
	if c.Service != nil {
		try.setService(name, *c.Service)
	}
	for _, check := range c.Checks {
		if why := try.setCheck(name, *check); why != "" {
			return why
		}
	}
	*m = *try
	return nil
}

func (m *model) setNode(want api.Node) string {
	name := strings.ToLower(want.Node)
	old, known := m.nodes[name]
	if want.ID != "" {
		clash := func(key string, n api.Node) bool {
			return (key == name) != (n.ID == want.ID) && (key != name || n.ID != "")
		}
		for _, other := range slices.SortedFunc(maps.Keys(m.nodes), func(a, b string) int {
			return cmp.Compare(strings.Count(a, name), strings.Count(b, name)) // the same name last
		}) {
			n := m.nodes[other]
			if clash(other, n) && m.checks[[2]string{other, api.SerfHealthID}].Status != api.HealthCritical {
				return fmt.Sprintf("failed inserting node: Error while renaming Node ID: %q: Node name %s is reserved by node %s with name %s (%s)",
					want.ID, want.Node, n.ID, n.Node, n.Address)
			}
		}
		for other, n := range m.nodes {
			if other != name && n.ID == want.ID {
				m.removeNode(other, true)
			}
		}
	} else {
		want.ID = old.ID
	}
	want.CreateIndex, want.ModifyIndex = m.index, m.index
	if known {
		want.Node, want.CreateIndex, want.ModifyIndex = old.Node, old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(want, old) {
			return ""
		}
		want.ModifyIndex = m.index
	}
	m.nodes[name] = want
	return ""
}

func (m *model) setService(name string, want api.NodeService) {
	if want.Tags == nil {
		want.Tags = []string{}
	}
	want.Weights = api.Weights{Passing: 1, Warning: 1}
	want.CreateIndex, want.ModifyIndex = m.index, m.index
	key := [2]string{name, want.ID}
	old, known := m.services[key]
	if known {
		want.CreateIndex, want.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(want, old.NodeService) {
			return
		}
		want.ModifyIndex = m.index
	}
	m.services[key] = modelService{m.nodes[name].Node, want}
	for k, c := range m.checks {
		if k[0] == name && c.ServiceID == want.ID && (c.ServiceName != want.Service || !slices.Equal(c.ServiceTags, want.Tags)) {
			c.ServiceName, c.ServiceTags, c.ModifyIndex = want.Service, want.Tags, m.index
			m.checks[k] = c
		}
	}
}

func (m *model) setCheck(name string, want api.HealthCheck) string {
	want.Node, want.ServiceTags = m.nodes[name].Node, []string{}
	if want.ServiceID != "" {
		svc, ok := m.services[[2]string{name, want.ServiceID}]
		if !ok {
			return fmt.Sprintf("Unknown service ID '%s' for check ID '%s'", want.ServiceID, want.CheckID)
		}
		want.ServiceName, want.ServiceTags = svc.Service, svc.Tags
	}
	want.CreateIndex, want.ModifyIndex = m.index, m.index
	key := [2]string{name, want.CheckID}
	if old, ok := m.checks[key]; ok {
		want.CreateIndex, want.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(want, old) {
			return ""
		}
		want.ModifyIndex = m.index
	}
	m.checks[key] = want
	if want.Status == api.HealthCritical {
		m.endSessionsOf(key)
	}
	return ""
}

func (m *model) removeService(node, id string) {
	node = strings.ToLower(node)
	delete(m.services, [2]string{node, id})
	m.removeChecks(func(k [2]string, c api.HealthCheck) bool { return k[0] == node && c.ServiceID == id })
}

func (m *model) removeChecks(which func([2]string, api.HealthCheck) bool) {
	for k, c := range m.checks {
		if which(k, c) {
			delete(m.checks, k)
			m.endSessionsOf(k)
		}
	}
}

func (m *model) removeNode(node string, left bool) {
	node = strings.ToLower(node)
	if _, ok := m.nodes[node]; !ok {
		return
	}
	delete(m.nodes, node)
	maps.DeleteFunc(m.services, func(k [2]string, _ modelService) bool { return k[0] == node })
	m.removeChecks(func(k [2]string, _ api.HealthCheck) bool { return k[0] == node })
	for id, s := range m.sessions {
		if strings.EqualFold(s.Node, node) && (!left || s.TTL == "" || len(s.NodeChecks) > 0) {
			m.endSession(id)
		}
	}
}
