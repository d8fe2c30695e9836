package client

import (
	"context"

	"github.com/muster-dev/muster/pkg/api"
)

// HealthService lists the instances of a service with their checks; with
// passing only those whose every check passes.
func (c *Client) HealthService(ctx context.Context, name string, passing bool, o *Options) ([]*api.CheckServiceNode, Meta, error) {
	if passing {
		o = o.with("passing", "")
	}
	return get[[]*api.CheckServiceNode](ctx, c, "/v1/health/service/"+name, o)
}

// HealthNode lists the checks of one node.
func (c *Client) HealthNode(ctx context.Context, node string, o *Options) ([]*api.HealthCheck, Meta, error) {
	return get[[]*api.HealthCheck](ctx, c, "/v1/health/node/"+node, o)
}

// HealthState lists the checks in one state, or "any".
func (c *Client) HealthState(ctx context.Context, state string, o *Options) ([]*api.HealthCheck, Meta, error) {
	return get[[]*api.HealthCheck](ctx, c, "/v1/health/state/"+state, o)
}
