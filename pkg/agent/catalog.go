package agent

import (
	"context"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// catalog is how this agent's own state reaches the cluster's: through our own
// API, like anybody's.
type catalog struct{ c *client.Client }

func (k catalog) Register(ctx context.Context, r *api.CatalogRegistration) error {
	return k.c.CatalogRegister(ctx, r)
}

func (k catalog) Deregister(ctx context.Context, d *api.CatalogDeregistration) error {
	return k.c.CatalogDeregister(ctx, d)
}

func (k catalog) NodeServices(ctx context.Context, node string) (*api.NodeServices, error) {
	out, _, err := k.c.NodeServices(ctx, node, nil)
	return out, err
}

func (k catalog) NodeChecks(ctx context.Context, node string) ([]*api.HealthCheck, error) {
	out, _, err := k.c.HealthNode(ctx, node, nil)
	return out, err
}
