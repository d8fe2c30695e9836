package handlers

import "slices"

// pending is the queue of updates to deliver. It is not safe for concurrent use.
type pending struct {
	overlap Overlap
	events  bool
	updates []update
}

const (
	// maxQueue is how many changes wait under OverlapQueue; above it the oldest is
	// dropped.
	maxQueue = 1024
	// maxPendingEvents is how many events wait; above it the oldest are dropped. An
	// agent keeps 256, the servers 4,096 durable ones.
	maxPendingEvents = 4096
)

// add appends an update. lost is how many changes or events were dropped.
func (p *pending) add(v update) (lost int) {
	if p.overlap != OverlapQueue {
		return p.merge(v)
	}
	p.updates = append(p.updates, v)
	limit := maxQueue
	if p.events {
		limit = maxPendingEvents
	}
	lost = max(0, len(p.updates)-limit)
	p.updates = p.updates[lost:]
	return lost
}

// merge merges v with the waiting update: the newest state, all events.
func (p *pending) merge(v update) (lost int) {
	if p.events && len(p.updates) > 0 {
		before := p.updates[0].items
		v.items = append(before[:len(before):len(before)], v.items...)
		lost = max(0, len(v.items)-maxPendingEvents)
		v.items = v.items[lost:]
	}
	p.updates = []update{v}
	return lost
}

// putBack puts an update that could not be delivered before those that came since. It
// returns false if it did not: states are not queued, and a newer one waits.
func (p *pending) putBack(v update) bool {
	switch {
	case len(p.updates) == 0 || p.overlap == OverlapQueue:
		p.updates = append([]update{v}, p.updates...)
	case p.events:
		newer := p.updates[0]
		p.updates = []update{v}
		p.merge(newer)
	default:
		return false
	}
	return true
}

// pop removes the next update to deliver.
func (p *pending) pop() update {
	v := p.updates[0]
	p.updates = p.updates[1:]
	return v
}

// has reports whether an event waits.
func (p *pending) has(id string) bool {
	for _, v := range p.updates {
		if v.has(id) {
			return true
		}
	}
	return false
}

func (v update) has(key string) bool {
	return slices.ContainsFunc(v.items, func(it item) bool { return it.Key == key })
}
