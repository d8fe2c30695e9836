package handlers

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/watch"
)

// Client asks an agent: *client.Client.
type Client interface {
	watch.Getter
	EventAck(ctx context.Context, id, node string, o *client.Options) error
}

const (
	// ackTime is how long acknowledging one event may take.
	ackTime = 5 * time.Second
	// advanceAfter is how many durable events are delivered before those are not asked
	// for any more.
	advanceAfter = 256
)

// position is how far a watch of durable events has come, 0 where it begins.
func (m *memory) position() uint64 {
	if m.last == nil {
		return 0
	}
	return m.last.Since
}

// unacked are the ids of events that were delivered and not acknowledged yet.
func (m *memory) unacked() []string {
	if m.last == nil {
		return nil
	}
	return m.last.Unacked
}

// query is what is asked for now: of durable events only those that are new.
func (d *delivery) query() watch.Request {
	q := d.spec.Request()
	if since := d.since.Load(); since > 0 {
		q.Params = addParam(q.Params, "since", since)
	}
	return q
}

// advance has the agent leave out what was delivered, now and then.
func (d *delivery) advance(events int) {
	if d.delivered += events; d.delivered >= advanceAfter && d.moved != nil {
		d.delivered = 0
		d.since.Store(d.mem.position())
		d.moved()
	}
}

// acknowledge tells the servers what was delivered here. What cannot be told now is
// told later, after a restart too.
func (d *delivery) acknowledge(ctx context.Context) {
	d.ackAt = time.Time{}
	left := d.mem.unacked()
	if d.ack == nil || len(left) == 0 {
		return
	}
	for len(left) > 0 {
		asking, cancel := context.WithTimeout(ctx, ackTime)
		err := d.ack.EventAck(asking, left[0], "", &client.Options{Datacenter: d.spec.Datacenter})
		cancel()
		if err != nil && !client.IsStatus(err, 404) && !client.IsStatus(err, 400) {
			d.ackFailures++
			delay := min(lastRetry, firstRetry<<min(d.ackFailures-1, 16))
			d.ackAt = time.Now().Add(delay)
			d.log.Warn("cannot acknowledge an event, trying again", "event", left[0], "error", err, "retry_in", delay)
			break
		}
		if err != nil { // it has expired, or nobody there knows our agent's node
			d.log.Warn("an event is not acknowledged", "event", left[0], "error", err)
		}
		d.ackFailures = 0
		left = left[1:]
	}
	now := *d.mem.last
	now.Unacked = left
	if err := d.mem.keep(&now); err != nil {
		d.log.Error("cannot remember what was acknowledged: it is acknowledged again", "error", err)
	}
}
