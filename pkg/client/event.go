package client

import (
	"context"

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
