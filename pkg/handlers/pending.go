package handlers

import "slices"

// pending is the queue of views to deliver. It is not safe for concurrent use.
type pending struct {
	overlap Overlap
	events  bool
	views   []view
}

const (
	// maxQueue is how many changes wait under OverlapQueue; above it the oldest is
	// dropped.
	maxQueue = 1024
	// maxPendingEvents is how many events wait; above it the oldest are dropped. An
	// agent keeps 256, the servers 4,096 durable ones.
	maxPendingEvents = 4096
)

// add appends a view. lost is how many changes or events were dropped.
func (p *pending) add(v view) (lost int) {
	if p.overlap != OverlapQueue {
		return p.merge(v)
	}
	p.views = append(p.views, v)
	limit := maxQueue
	if p.events {
		limit = maxPendingEvents
	}
	lost = max(0, len(p.views)-limit)
	p.views = p.views[lost:]
	return lost
}

// merge merges v with the waiting view: the newest state, all events.
func (p *pending) merge(v view) (lost int) {
	if p.events && len(p.views) > 0 {
		before := p.views[0].items
		v.items = append(before[:len(before):len(before)], v.items...)
		lost = max(0, len(v.items)-maxPendingEvents)
		v.items = v.items[lost:]
	}
	p.views = []view{v}
	return lost
}

// putBack puts back a view that could not be delivered, before those that came since.
// Where states are not queued a newer one replaces it: false.
func (p *pending) putBack(v view) bool {
	switch {
	case len(p.views) == 0 || p.overlap == OverlapQueue:
		p.views = append([]view{v}, p.views...)
	case p.events:
		newer := p.views[0]
		p.views = []view{v}
		p.merge(newer)
	default:
		return false
	}
	return true
}

// pop removes the next view to deliver.
func (p *pending) pop() view {
	v := p.views[0]
	p.views = p.views[1:]
	return v
}

// has reports whether an event waits.
func (p *pending) has(id string) bool {
	for _, v := range p.views {
		if v.has(id) {
			return true
		}
	}
	return false
}

func (v view) has(key string) bool {
	return slices.ContainsFunc(v.items, func(it item) bool { return it.Key == key })
}
