package client

import (
	"context"
	"net/http"

	"github.com/muster-dev/muster/pkg/api"
)

// SessionCreate begins a session and returns its id.
func (c *Client) SessionCreate(ctx context.Context, s api.SessionCreate, o *Options) (string, error) {
	var out struct{ ID string }
	_, err := c.Put(ctx, "/v1/session/create", o, s, &out)
	return out.ID, err
}

// SessionDestroy ends a session; one that is not there is no error.
func (c *Client) SessionDestroy(ctx context.Context, id string, o *Options) error {
	_, err := c.Put(ctx, "/v1/session/destroy/"+id, o, nil, nil)
	return err
}

// SessionRenew makes the TTL of a session begin anew; nil when it has ended.
func (c *Client) SessionRenew(ctx context.Context, id string, o *Options) (*api.Session, error) {
	var out []*api.Session
	_, err := c.Put(ctx, "/v1/session/renew/"+id, o, nil, &out)
	if IsStatus(err, http.StatusNotFound) || err == nil && len(out) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// SessionInfo reads one session; nil when there is none.
func (c *Client) SessionInfo(ctx context.Context, id string, o *Options) (*api.Session, Meta, error) {
	sessions, meta, err := get[[]*api.Session](ctx, c, "/v1/session/info/"+id, o)
	if len(sessions) == 0 {
		return nil, meta, err
	}
	return sessions[0], meta, err
}

// SessionList lists all sessions.
func (c *Client) SessionList(ctx context.Context, o *Options) ([]*api.Session, Meta, error) {
	return get[[]*api.Session](ctx, c, "/v1/session/list", o)
}
