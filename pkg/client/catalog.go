package client

import (
	"context"

	"github.com/muster-dev/muster/pkg/api"
)

// Datacenters lists the known datacenters, nearest first.
func (c *Client) Datacenters(ctx context.Context) ([]string, error) {
	out, _, err := get[[]string](ctx, c, "/v1/catalog/datacenters", nil)
	return out, err
}

// Nodes lists the catalog's nodes.
func (c *Client) Nodes(ctx context.Context, o *Options) ([]*api.Node, Meta, error) {
	return get[[]*api.Node](ctx, c, "/v1/catalog/nodes", o)
}

// NodeServices reads one node with its services; nil when it is unknown.
func (c *Client) NodeServices(ctx context.Context, node string, o *Options) (*api.NodeServices, Meta, error) {
	return get[*api.NodeServices](ctx, c, "/v1/catalog/node/"+node, o)
}

// Services lists the names of all services with their tags.
func (c *Client) Services(ctx context.Context, o *Options) (map[string][]string, Meta, error) {
	return get[map[string][]string](ctx, c, "/v1/catalog/services", o)
}

// ServiceNodes lists the instances of a service, whatever their health.
func (c *Client) ServiceNodes(ctx context.Context, name string, o *Options) ([]*api.ServiceNode, Meta, error) {
	return get[[]*api.ServiceNode](ctx, c, "/v1/catalog/service/"+name, o)
}

// CatalogRegister writes a node, service or checks straight into the catalog.
func (c *Client) CatalogRegister(ctx context.Context, r *api.CatalogRegistration) error {
	_, err := c.Put(ctx, "/v1/catalog/register", nil, r, nil)
	return err
}

// CatalogDeregister removes a node, service or check from the catalog.
func (c *Client) CatalogDeregister(ctx context.Context, d *api.CatalogDeregistration) error {
	_, err := c.Put(ctx, "/v1/catalog/deregister", nil, d, nil)
	return err
}
