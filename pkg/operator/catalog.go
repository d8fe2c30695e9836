package operator

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// shortID is how much of a node's id fits a table.
const shortID = 8

// Datacenters lists the datacenters the agent knows.
func Datacenters(ctx context.Context, c *client.Client, out io.Writer) error {
	names, err := c.Datacenters(ctx)
	if err != nil {
		return failed(err, "Error listing datacenters")
	}
	for _, name := range names {
		fmt.Fprintln(out, name)
	}
	return nil
}

// NodesQuery says which nodes `catalog nodes` lists, and how.
type NodesQuery struct {
	Detailed bool
	Service  string // only nodes that have it
	Options  client.Options
}

// Nodes lists the catalog's nodes, or prints to warn that none match.
func Nodes(ctx context.Context, c *client.Client, out, warn io.Writer, q NodesQuery) error {
	nodes, err := findNodes(ctx, c, q)
	if err != nil {
		return failed(err, "Error listing nodes")
	}
	if len(nodes) == 0 {
		fmt.Fprintln(warn, "No nodes match the given query - try expanding your search.")
		return nil
	}
	rows := [][]string{{"Node", "ID", "Address", "DC"}}
	if q.Detailed {
		rows[0] = append(rows[0], "TaggedAddresses", "Meta")
	}
	for _, n := range nodes {
		if q.Detailed {
			rows = append(rows, []string{n.Node, n.ID, n.Address, n.Datacenter, pairs(n.TaggedAddresses, ", "), pairs(n.Meta, ", ")})
			continue
		}
		rows = append(rows, []string{n.Node, n.ID[:min(shortID, len(n.ID))], n.Address, n.Datacenter})
	}
	table(out, rows)
	return nil
}

func findNodes(ctx context.Context, c *client.Client, q NodesQuery) ([]*api.Node, error) {
	if q.Service == "" {
		nodes, _, err := c.Nodes(ctx, &q.Options)
		return nodes, err
	}
	instances, _, err := c.ServiceNodes(ctx, q.Service, &q.Options)
	if err != nil {
		return nil, err
	}
	var nodes []*api.Node
	seen := map[string]bool{}
	for _, s := range instances {
		if seen[s.Node] {
			continue
		}
		seen[s.Node] = true
		nodes = append(nodes, &api.Node{
			ID: s.ID, Node: s.Node, Address: s.Address, Datacenter: s.Datacenter,
			TaggedAddresses: s.TaggedAddresses, Meta: s.NodeMeta,
		})
	}
	return nodes, nil
}

// ServicesQuery says which services `catalog services` lists, and how.
type ServicesQuery struct {
	Node    string // only those on it
	Tags    bool
	Options client.Options
}

// Services lists the names of the catalog's services, or prints to warn that none match.
func Services(ctx context.Context, c *client.Client, out, warn io.Writer, q ServicesQuery) error {
	services, err := findServices(ctx, c, q)
	if err != nil {
		return failed(err, "Error listing services")
	}
	if len(services) == 0 {
		fmt.Fprintln(warn, "No services match the given query - try expanding your search.")
		return nil
	}
	var rows [][]string
	for _, name := range sortedKeys(services) {
		row := []string{name}
		if q.Tags {
			tags := slices.Sorted(slices.Values(services[name]))
			row = append(row, strings.Join(slices.Compact(tags), ","))
		}
		rows = append(rows, row)
	}
	table(out, rows)
	return nil
}

func findServices(ctx context.Context, c *client.Client, q ServicesQuery) (map[string][]string, error) {
	if q.Node == "" {
		services, _, err := c.Services(ctx, &q.Options)
		return services, err
	}
	node, _, err := c.NodeServices(ctx, q.Node, &q.Options)
	if err != nil || node == nil {
		return nil, err
	}
	services := map[string][]string{}
	for _, s := range node.Services {
		services[s.Service] = append(services[s.Service], s.Tags...)
	}
	return services, nil
}
