package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/operator"
)

func eventCommand() *cobra.Command {
	var f operator.EventFlags
	return subcommand{
		use:   "event -name=NAME [flags] [PAYLOAD]",
		short: "fire an event, or list the durable ones",
		long: `Event sends an event, with a payload if one is given, to every agent of the datacenter that the
filters match, which are regular expressions. Agents keep the last 256; an agent that is away
misses it. A durable event is kept by the servers instead, in order, until its time is over;
-log lists those, with how many nodes have acknowledged each.`,
		example: `agent event -name=deploy v1.2.3
  agent event -name=restart -service='^web' -tag=blue
  agent event -name=flush -node='^cache-' -http-addr=10.0.0.7:8500
  agent event -name=deploy -durable -ttl=24h v1.2.3
  agent event -log -name=deploy`,
		most:   many,
		server: true,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.Name, "name", "", "`name` of the event")
			fs.StringVar(&f.Node, "node", "", "only nodes whose name matches this `regexp`")
			fs.StringVar(&f.Service, "service", "", "only nodes with a service whose id matches this `regexp`")
			fs.StringVar(&f.Tag, "tag", "", "and one of whose tags matches this `regexp`; with -service")
			fs.BoolVar(&f.Durable, "durable", false, "kept by the servers, in order; without filters")
			fs.DurationVar(&f.TTL, "ttl", 0, "how long a durable event is kept (default 1h)")
			fs.BoolVar(&f.Log, "log", false, "list the durable events")
		},
		run: func(ctx context.Context, s session) error {
			return operator.Event(ctx, s.Client, s.out, f, s.args)
		},
	}.command()
}
