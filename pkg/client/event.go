package client

import (
	"context"
	"strconv"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// EventFire sends a user event to the agents that its filters match, and returns
// it with its id. The server sets ID, Version and LTime.
func (c *Client) EventFire(ctx context.Context, e api.Event, o *Options) (*api.Event, error) {
	for param, value := range map[string]string{"node": e.NodeFilter, "service": e.ServiceFilter, "tag": e.TagFilter} {
		if value != "" {
			o = o.with(param, value)
		}
	}
	payload := e.Payload
	if payload == nil {
		payload = []byte{}
	}
	var out api.Event
	_, err := c.Put(ctx, "/v1/event/fire/"+e.Name, o, payload, &out)
	return &out, err
}

// EventList lists the last events of a name, "" for all, at the agent, oldest
// first. Meta.Index identifies the newest; only compare it for equality.
func (c *Client) EventList(ctx context.Context, name string, o *Options) ([]*api.Event, Meta, error) {
	if name != "" {
		o = o.with("name", name)
	}
	return get[[]*api.Event](ctx, c, "/v1/event/list", o)
}

// EventFireDurable adds an event to the log of the servers, which keep it for ttl;
// zero means their default of an hour.
func (c *Client) EventFireDurable(ctx context.Context, name string, payload []byte, ttl time.Duration, o *Options) (*api.DurableEvent, error) {
	o = o.with("durable", "")
	if ttl != 0 {
		o = o.with("ttl", ttl.String())
	}
	if payload == nil {
		payload = []byte{}
	}
	var out api.DurableEvent
	_, err := c.Put(ctx, "/v1/event/fire/"+name, o, payload, &out)
	return &out, err
}

// EventLog lists the durable events of a name, "" for all, whose Index is above
// since, in the order in which they were fired. Options.Index blocks until there
// are others.
func (c *Client) EventLog(ctx context.Context, name string, since uint64, o *Options) ([]*api.DurableEvent, Meta, error) {
	return get[[]*api.DurableEvent](ctx, c, "/v1/event/log", o.logParams(name, since))
}

// EventLogAcks is EventLog with how many nodes have acknowledged each event.
func (c *Client) EventLogAcks(ctx context.Context, name string, since uint64, o *Options) ([]*api.EventAcks, Meta, error) {
	return get[[]*api.EventAcks](ctx, c, "/v1/event/log", o.logParams(name, since).with("acks", ""))
}

func (o *Options) logParams(name string, since uint64) *Options {
	if name != "" {
		o = o.with("name", name)
	}
	return o.with("since", strconv.FormatUint(since, 10))
}

// EventAck records that a node, "" for that of the agent, has acknowledged a durable
// event. Repeating it is no error.
func (c *Client) EventAck(ctx context.Context, id, node string, o *Options) error {
	if node != "" {
		o = o.with("node", node)
	}
	_, err := c.Put(ctx, "/v1/event/ack/"+id, o, nil, nil)
	return err
}

// EventAcks returns a durable event and the nodes that have acknowledged it; nil if
// there is none, or it has expired.
func (c *Client) EventAcks(ctx context.Context, id string, o *Options) (*api.EventAcks, Meta, error) {
	return orNil(get[*api.EventAcks](ctx, c, "/v1/event/ack/"+id, o))
}
