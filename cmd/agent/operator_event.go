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
		short: "fire a user event",
		long: `Event sends an event, with a payload if one is given, to every agent of the datacenter that the
filters match, which are regular expressions. Agents keep the last 256; an agent that is away
misses it.`,
		example: `agent event -name=deploy v1.2.3
  agent event -name=restart -service='^web' -tag=blue
  agent event -name=flush -node='^cache-' -http-addr=10.0.0.7:8500`,
		most:   many,
		server: true,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.Name, "name", "", "`name` of the event")
			fs.StringVar(&f.Node, "node", "", "only nodes whose name matches this `regexp`")
			fs.StringVar(&f.Service, "service", "", "only nodes with a service whose id matches this `regexp`")
			fs.StringVar(&f.Tag, "tag", "", "and one of whose tags matches this `regexp`; with -service")
		},
		run: func(ctx context.Context, s session) error {
			return operator.FireEvent(ctx, s.Client, s.out, f, s.args)
		},
	}.command()
}
