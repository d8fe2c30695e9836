package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/operator"
)

func membersCommand() *cobra.Command {
	var q operator.MembersQuery
	return subcommand{
		use:     "members [flags]",
		short:   "list the members of the cluster",
		long:    "Members lists the members of the cluster that the agent sees, servers first. The exit code\nis 2 when none match.",
		example: "agent members -status=alive",
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&q.Detailed, "detailed", false, "print all tags")
			fs.StringVar(&q.Status, "status", ".*", "only members whose status matches this regular `expression`")
			fs.StringVar(&q.Filter, "filter", "", "only members that this `expression` selects, such as 'Tags.role == consul'")
			fs.BoolVar(&q.WAN, "wan", false, "the pool of servers that spans datacenters")
			fs.StringVar(&q.Segment, "segment", "", "accepted; there are no segments")
		},
		run: func(ctx context.Context, s session) error {
			return operator.Members(ctx, s.Client, s.out, q)
		},
	}.command()
}

func joinCommand() *cobra.Command {
	var wan bool
	return subcommand{
		use:     "join [flags] ADDRESS...",
		short:   "make the agent join a cluster",
		example: "agent join 10.0.0.1",
		most:    many,
		missing: "At least one address to join must be specified.",
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&wan, "wan", false, "join the pool of servers that spans datacenters")
		},
		run: func(ctx context.Context, s session) error {
			return operator.Join(ctx, s.Client, s.out, s.warn, s.args, wan)
		},
	}.command()
}

func leaveCommand() *cobra.Command {
	return subcommand{
		use:     "leave [flags]",
		short:   "make the agent leave its cluster and stop",
		example: "agent leave",
		run: func(ctx context.Context, s session) error {
			return operator.Leave(ctx, s.Client, s.out)
		},
	}.command()
}

func forceLeaveCommand() *cobra.Command {
	var prune, wan bool
	return subcommand{
		use:     "force-leave [flags] NODE",
		short:   "count a failed member as one that left",
		example: "agent force-leave -prune web-7",
		most:    1,
		missing: "A node name must be specified to force leave.",
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&prune, "prune", false, "forget the member at once")
			fs.BoolVar(&wan, "wan", false, "in the pool of servers that spans datacenters")
		},
		run: func(ctx context.Context, s session) error {
			return operator.ForceLeave(ctx, s.Client, s.arg(0), prune, wan)
		},
	}.command()
}

func raftCommand() *cobra.Command {
	peers := subcommand{
		use:     "list-peers [flags]",
		short:   "list the servers that raft counts on",
		example: "agent operator raft list-peers",
		server:  true,
		run: func(ctx context.Context, s session) error {
			return operator.RaftPeers(ctx, s.Client, s.out, s.read)
		},
	}.command()
	return group("operator", "look after the servers", "agent operator raft list-peers",
		group("raft", "the servers' consensus", "agent operator raft list-peers", peers))
}
