package client

import (
	"context"
	"net/http"
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

// EventList lists the last events that the agent has kept, oldest first; a name
// that is not empty selects. Meta.Index stands for the newest of them; it is to be
// compared for equality only.
func (c *Client) EventList(ctx context.Context, name string, o *Options) ([]*api.Event, Meta, error) {
	if name != "" {
		o = o.with("name", name)
	}
	var out []*api.Event
	meta, err := c.Get(ctx, "/v1/event/list", o, &out)
	return out, meta, err
}

// EventFireDurable adds an event to the log that the servers keep, for ttl; zero
// leaves that to them (an hour).
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
	var out []*api.DurableEvent
	meta, err := c.Get(ctx, "/v1/event/log", o.logged(name, since), &out)
	return out, meta, err
}

// EventLogAcks is EventLog with how many nodes have acknowledged each event.
func (c *Client) EventLogAcks(ctx context.Context, name string, since uint64, o *Options) ([]*api.EventAcks, Meta, error) {
	var out []*api.EventAcks
	meta, err := c.Get(ctx, "/v1/event/log", o.logged(name, since).with("acks", ""), &out)
	return out, meta, err
}

func (o *Options) logged(name string, since uint64) *Options {
	if name != "" {
		o = o.with("name", name)
	}
	return o.with("since", strconv.FormatUint(since, 10))
}

// EventAck notes that a node, "" for that of the agent asked, has acknowledged a
// durable event. Once more is no error.
func (c *Client) EventAck(ctx context.Context, id, node string, o *Options) error {
	if node != "" {
		o = o.with("node", node)
	}
	_, err := c.Put(ctx, "/v1/event/ack/"+id, o, nil, nil)
	return err
}

// EventAcks returns a durable event and who has acknowledged it; nil when it has
// expired, or never was.
func (c *Client) EventAcks(ctx context.Context, id string, o *Options) (*api.EventAcks, Meta, error) {
	var out api.EventAcks
	meta, err := c.Get(ctx, "/v1/event/ack/"+id, o, &out)
	if IsStatus(err, http.StatusNotFound) {
		return nil, meta, nil
	}
	return &out, meta, err
}
