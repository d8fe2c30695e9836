package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
)

// AgentSelf reads what the agent says of itself, as plain JSON values.
func (c *Client) AgentSelf(ctx context.Context) (map[string]map[string]any, error) {
	out, _, err := get[map[string]map[string]any](ctx, c, "/v1/agent/self", nil)
	return out, err
}

// AgentMembers lists the members of the agent's gossip pool.
func (c *Client) AgentMembers(ctx context.Context, o *Options) ([]*api.Member, error) {
	out, _, err := get[[]*api.Member](ctx, c, "/v1/agent/members", o)
	return out, err
}

// AgentServices lists the services registered at the agent, by id.
func (c *Client) AgentServices(ctx context.Context, o *Options) (map[string]*api.AgentService, error) {
	out, _, err := get[map[string]*api.AgentService](ctx, c, "/v1/agent/services", o)
	return out, err
}

// AgentChecks lists the checks that run at the agent, by id.
func (c *Client) AgentChecks(ctx context.Context, o *Options) (map[string]*api.HealthCheck, error) {
	out, _, err := get[map[string]*api.HealthCheck](ctx, c, "/v1/agent/checks", o)
	return out, err
}

// ServiceRegister registers a service at the agent.
func (c *Client) ServiceRegister(ctx context.Context, r *api.AgentServiceRegistration) error {
	_, err := c.Put(ctx, "/v1/agent/service/register", nil, r, nil)
	return err
}

// ServiceDeregister removes a service from the agent.
func (c *Client) ServiceDeregister(ctx context.Context, id string) error {
	_, err := c.Put(ctx, "/v1/agent/service/deregister/"+id, nil, nil, nil)
	return err
}

// NodeMaintenance puts the agent's node into maintenance mode, or ends that.
func (c *Client) NodeMaintenance(ctx context.Context, on bool, reason string) error {
	return c.maintenance(ctx, "/v1/agent/maintenance", on, reason)
}

// ServiceMaintenance puts a service of the agent's into maintenance mode, or ends
// that.
func (c *Client) ServiceMaintenance(ctx context.Context, id string, on bool, reason string) error {
	return c.maintenance(ctx, "/v1/agent/service/maintenance/"+id, on, reason)
}

func (c *Client) maintenance(ctx context.Context, path string, on bool, reason string) error {
	_, err := c.Put(ctx, path, &Options{Params: url.Values{"enable": {strconv.FormatBool(on)}, "reason": {reason}}}, nil, nil)
	return err
}

// Join makes the agent join the cluster of the agent at addr.
func (c *Client) Join(ctx context.Context, addr string, wan bool) error {
	var o *Options
	if wan {
		o = o.with("wan", "1")
	}
	_, err := c.Put(ctx, "/v1/agent/join/"+addr, o, nil, nil)
	return err
}

// Leave makes the agent leave its cluster and stop.
func (c *Client) Leave(ctx context.Context) error {
	_, err := c.Put(ctx, "/v1/agent/leave", nil, nil, nil)
	return err
}

// ForceLeave turns a failed member into one that left, with wan in the WAN pool; with
// prune it is forgotten at once.
func (c *Client) ForceLeave(ctx context.Context, node string, prune, wan bool) error {
	var o *Options
	if prune {
		o = o.with("prune", "1")
	}
	if wan {
		o = o.with("wan", "1")
	}
	_, err := c.Put(ctx, "/v1/agent/force-leave/"+node, o, nil, nil)
	return err
}

// Reload makes the agent read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.Put(ctx, "/v1/agent/reload", nil, nil, nil)
	return err
}

// StatusLeader is the leader's address, "" when there is none.
func (c *Client) StatusLeader(ctx context.Context) (string, error) {
	out, _, err := get[string](ctx, c, "/v1/status/leader", nil)
	return out, err
}

// StatusPeers lists the addresses of the raft peers.
func (c *Client) StatusPeers(ctx context.Context) ([]string, error) {
	out, _, err := get[[]string](ctx, c, "/v1/status/peers", nil)
	return out, err
}
