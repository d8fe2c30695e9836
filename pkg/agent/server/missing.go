package server

import (
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/state"
	"github.com/muster-dev/muster/pkg/api"
)

// How a node is treated that the catalog has with a serfHealth, but the pool
// does not know. One that this server has met before was reaped or pruned, and
// goes. One that it never met may have died, or may just not have found the way
// back yet while this server itself has only started: to drop it at once would
// empty the catalog at every restart of a lone server.
const (
	missingGrace = 15 * time.Second // then it is critical
	missingLimit = 72 * time.Hour   // then it goes, as a failed member does
)

// missingNodes remembers who was met, and since when who is missing. Names are in
// lower case.
type missingNodes struct {
	seen  map[string]bool
	since map[string]time.Time
}

func newMissingNodes() missingNodes {
	return missingNodes{seen: map[string]bool{}, since: map[string]time.Time{}}
}

// plan says what to write for the absent, and when to look again at the latest.
func (a missingNodes) plan(snap *state.Snapshot, members []api.Member, now time.Time) ([]state.Command, time.Duration) {
	here := make(map[string]bool, len(members))
	for _, m := range members {
		name := strings.ToLower(m.Name)
		here[name], a.seen[name] = true, true
		delete(a.since, name)
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
		cmds, wait := a.planOne(snap, n, name, now)
		plan = append(plan, cmds...)
		again = min(again, wait)
	}
	a.forget(known, here)
	return plan, again
}

func (a missingNodes) planOne(snap *state.Snapshot, n *api.Node, name string, now time.Time) ([]state.Command, time.Duration) {
	gone := []state.Command{&state.Deregister{Node: n.Node, Left: true}}
	if a.seen[name] {
		return gone, missingLimit
	}
	since, ok := a.since[name]
	if !ok {
		since = now
		a.since[name] = now
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
func (a missingNodes) forget(known, here map[string]bool) {
	for name := range a.seen {
		if !known[name] && !here[name] {
			delete(a.seen, name)
		}
	}
	for name := range a.since {
		if !known[name] {
			delete(a.since, name)
		}
	}
}
