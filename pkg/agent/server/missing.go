package server

import (
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// A missing node is one that has a serfHealth in the catalog but is not in the pool. One
// that this server has seen in the pool was reaped or pruned, and is deregistered. One
// that it has never seen may have died, or may not have rejoined yet because this server
// has just started: to deregister it at once would empty the catalog at every restart of
// a single server.
const (
	missingGrace = 15 * time.Second // then it is critical
	missingLimit = 72 * time.Hour   // then it is deregistered, as a failed member is
)

// missingNodes remembers which nodes were seen in the pool, and since when others are missing.
// Names are in lower case.
type missingNodes struct {
	seen  map[string]bool
	since map[string]time.Time
}

func newMissingNodes() missingNodes {
	return missingNodes{seen: map[string]bool{}, since: map[string]time.Time{}}
}

// plan says what to write for missing nodes, and when to look again at the latest.
func (m missingNodes) plan(snap *state.Snapshot, members []api.Member, now time.Time) ([]state.Command, time.Duration) {
	here := make(map[string]bool, len(members))
	for _, member := range members {
		name := strings.ToLower(member.Name)
		here[name], m.seen[name] = true, true
		delete(m.since, name)
	}
	var plan []state.Command
	again := missingLimit
	known := make(map[string]bool)
	nodes, _ := snap.Nodes(nil)
	for _, n := range nodes {
		name := strings.ToLower(n.Node)
		known[name] = true
		if here[name] || lookUp(snap, n.Node).health == nil {
			continue
		}
		cmds, wait := m.planOne(snap, n, name, now)
		plan = append(plan, cmds...)
		again = min(again, wait)
	}
	m.forget(known, here)
	return plan, again
}

func (m missingNodes) planOne(snap *state.Snapshot, n *api.Node, name string, now time.Time) ([]state.Command, time.Duration) {
	gone := []state.Command{&state.Deregister{Node: n.Node, Left: true}}
	if m.seen[name] {
		return gone, missingLimit
	}
	since, ok := m.since[name]
	if !ok {
		since = now
		m.since[name] = now
	}
	switch missing := now.Sub(since); {
	case missing < missingGrace:
		return nil, missingGrace - missing
	case missing < missingLimit:
		return planFailed(snap, n.Node, n.ID), missingLimit - missing
	default:
		return gone, missingLimit
	}
}

// forget keeps the maps as small as catalog and pool are.
func (m missingNodes) forget(known, here map[string]bool) {
	for name := range m.seen {
		if !known[name] && !here[name] {
			delete(m.seen, name)
		}
	}
	for name := range m.since {
		if !known[name] {
			delete(m.since, name)
		}
	}
}
