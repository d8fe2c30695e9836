package handlers

import (
	"context"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
	"github.com/muster-dev/muster/pkg/watch"
)

// Client asks an agent: *client.Client.
type Client interface {
	watch.Getter
	EventAck(ctx context.Context, id, node string, o *client.Options) error
}

const (
	// ackTimeout is how long acknowledging one event may take.
	ackTimeout = 5 * time.Second
	// advanceAfter is how many durable events are delivered before the request leaves
	// them out.
	advanceAfter = 256
)

// position is the index of the last durable event that was delivered; 0: none.
func (c *cursor) position() uint64 {
	if c.last == nil {
		return 0
	}
	return c.last.Since
}

// unacked are the ids of events that were delivered and not acknowledged yet.
func (c *cursor) unacked() []string {
	if c.last == nil {
		return nil
	}
	return c.last.Unacked
}

// request is the request of the watch, of durable events only for new ones.
func (d *delivery) request() watch.Request {
	q := d.spec.Request()
	if since := d.since.Load(); since > 0 {
		q.Params = addParam(q.Params, "since", since)
	}
	return q
}

// advance moves the request's start behind the delivered events, once advanceAfter of
// them were delivered.
func (d *delivery) advance(events int) {
	if d.sinceAdvance += events; d.sinceAdvance >= advanceAfter && d.onSince != nil {
		d.sinceAdvance = 0
		d.since.Store(d.cursor.position())
		d.onSince()
	}
}

// acknowledge tells the servers which events were delivered here. Failures are retried,
// after a restart too.
func (d *delivery) acknowledge(ctx context.Context) {
	d.ackAt = time.Time{}
	left := d.cursor.unacked()
	if d.ack == nil || len(left) == 0 {
		return
	}
	for len(left) > 0 {
		asking, cancel := context.WithTimeout(ctx, ackTimeout)
		err := d.ack.EventAck(asking, left[0], "", &client.Options{Datacenter: d.spec.Datacenter})
		cancel()
		if err != nil && !client.IsStatus(err, 404) && !client.IsStatus(err, 400) {
			d.ackFailures++
			delay := retry.Exponential(firstBackoff, maxBackoff, d.ackFailures-1)
			d.ackAt = time.Now().Add(delay)
			d.log.Warn("cannot acknowledge an event, trying again", "event", left[0], "error", err, "retry_in", delay)
			break
		}
		if err != nil { // it has expired, or our agent's node is unknown
			d.log.Warn("an event is not acknowledged", "event", left[0], "error", err)
		}
		d.ackFailures = 0
		left = left[1:]
	}
	now := *d.cursor.last
	now.Unacked = left
	if err := d.cursor.save(&now); err != nil {
		d.log.Error("cannot remember what was acknowledged: it is acknowledged again", "error", err)
	}
}
