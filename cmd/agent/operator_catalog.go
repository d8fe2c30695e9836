package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/operator"
)

func catalogCommand() *cobra.Command {
	return group("catalog", "list datacenters, nodes and services", "agent catalog services -tags",
		datacentersCommand(), nodesCommand(), catalogServicesCommand())
}

func datacentersCommand() *cobra.Command {
	return subcommand{
		use:     "datacenters [flags]",
		short:   "list the known datacenters",
		example: "agent catalog datacenters",
		run: func(ctx context.Context, s session) error {
			return operator.Datacenters(ctx, s.Client, s.out)
		},
	}.command()
}

func nodesCommand() *cobra.Command {
	var q operator.NodesQuery
	var near, filter string
	var meta []string
	return subcommand{
		use:     "nodes [flags]",
		short:   "list the nodes",
		example: "agent catalog nodes -service=web",
		server:  true,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&q.Detailed, "detailed", false, "print whole ids, tagged addresses and metadata")
			fs.StringVar(&q.Service, "service", "", "only nodes that have this `service`")
			fs.StringVar(&near, "near", "", "sort by distance from this `node`; _agent is the one asked")
			fs.StringVar(&filter, "filter", "", "only what this `expression` selects, such as 'Meta.rack == r1'")
			nodeMeta(fs, &meta)
		},
		run: func(ctx context.Context, s session) (err error) {
			if q.Options, err = withMeta(s.read, meta); err != nil {
				return err
			}
			q.Options.Near, q.Options.Filter = near, filter
			return operator.Nodes(ctx, s.Client, s.out, s.warn, q)
		},
	}.command()
}

func catalogServicesCommand() *cobra.Command {
	var q operator.ServicesQuery
	var meta []string
	return subcommand{
		use:     "services [flags]",
		short:   "list the services",
		example: "agent catalog services -tags",
		server:  true,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&q.Node, "node", "", "only services on this `node`")
			fs.BoolVar(&q.Tags, "tags", false, "print the tags too")
			nodeMeta(fs, &meta)
		},
		run: func(ctx context.Context, s session) (err error) {
			if q.Options, err = withMeta(s.read, meta); err != nil {
				return err
			}
			return operator.Services(ctx, s.Client, s.out, s.warn, q)
		},
	}.command()
}
