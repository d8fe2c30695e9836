package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/execcmd"
	"github.com/muster-dev/muster/cmd/internal/lockcmd"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/watchcmd"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/operator"
)

// addOperator adds the subcommands that ask an agent which runs. Their names,
// flags, output and exit codes are the reference's.
func addOperator(root *cobra.Command) {
	root.AddCommand(
		membersCommand(), joinCommand(), leaveCommand(), forceLeaveCommand(),
		kvCommand(), servicesCommand(), catalogCommand(), raftCommand(),
		infoCommand(), reloadCommand(), maintCommand(), eventCommand(),
		validateCommand(), keygenCommand(), versionCommand(),
		watchcmd.New("agent watch", os.Stdout, os.Stderr),
		lockcmd.New("agent lock"),
		execcmd.New("agent exec", os.Stdout, os.Stderr),
	)
}

// session is what a subcommand works with.
type session struct {
	*client.Client
	read      client.Options // as -stale says
	in        io.Reader
	out, warn io.Writer
	args      []string
}

// arg is the positional argument i, "" where it was not given.
func (s session) arg(i int) string {
	if i < len(s.args) {
		return s.args[i]
	}
	return ""
}

// subcommand describes one of them.
type subcommand struct {
	use, short, long, example string

	flags   func(*pflag.FlagSet)
	local   bool   // asks no agent
	server  bool   // asks the servers: -datacenter, -stale
	most    int    // positional arguments; many: any number
	missing string // what to say without one; "" where none is needed
	run     func(context.Context, session) error
}

const many = -1

func (sub subcommand) command() *cobra.Command {
	cmd := &cobra.Command{Use: sub.use, Short: sub.short, Long: sub.long, Example: "  " + sub.example}
	cmd.DisableFlagsInUseLine = true
	fs := cmd.Flags()
	table := option.New(fs, connect.Settings{})
	if sub.flags != nil {
		sub.flags(fs)
	}
	var s session
	if !sub.local {
		table.Add(connect.Options()...)
	}
	if sub.server {
		table.Add(connect.Datacenter(), option.Option{Flag: "stale", To: &s.read.Stale, Group: connect.Group, Help: "let any server answer, leader or not"})
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := sub.check(args); err != nil {
			return tell(cmd, err)
		}
		if !sub.local {
			_, agent, err := connect.Open(table, "agent", nil, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer agent.Client.CloseIdle()
			s.Client = agent.Client
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		s.in, s.out, s.warn, s.args = cmd.InOrStdin(), out, cmd.ErrOrStderr(), args
		err := explain(cmd.Context(), s.Client, sub.run(cmd.Context(), s))
		if broken := out.Flush(); broken != nil {
			return fmt.Errorf("write output: %w", broken)
		}
		return tell(cmd, err)
	}
	return cmd
}

func (sub subcommand) check(args []string) error {
	switch {
	case len(args) == 0 && sub.missing != "":
		return sentence(sub.missing)
	case sub.most == many || len(args) <= sub.most:
		return nil
	}
	err := sentence(fmt.Sprintf("Too many arguments (expected %d, got %d)", sub.most, len(args)))
	for _, arg := range args[1:] {
		if strings.HasPrefix(arg, "-") {
			return cli.Hint(cli.ExitError, err, "flags come before the first argument")
		}
	}
	return err
}

// explain adds to a failure for want of a leader who is missing, if the agent that was
// asked says so.
func explain(ctx context.Context, c *client.Client, err error) error {
	if c == nil || !errors.Is(err, api.ErrNoLeader) {
		return err
	}
	members, unknown := c.AgentMembers(ctx, nil)
	if unknown != nil {
		return err
	}
	return cli.Hint(cli.Code(err), err, api.WhyNoLeader(members))
}

// sentence is an error that is shown as it stands.
type sentence string

func (s sentence) Error() string { return string(s) }

// tell shows an error in the reference's words, that is without a prefix, and
// leaves only the exit code of it.
func tell(cmd *cobra.Command, err error) error {
	var coded *cli.Error
	isCoded := errors.As(err, &coded)
	if err == nil || isCoded && coded.Err == nil {
		return err
	}
	w := cmd.ErrOrStderr()
	_, _ = fmt.Fprintln(w, strings.TrimRight(err.Error(), "\n"))
	hint := ""
	switch {
	case isCoded:
		hint = coded.Hint
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "no agent listens there: start one (agent -dev), or name another by -http-addr or MUSTER_HTTP_ADDR"
	}
	if hint != "" {
		_, _ = fmt.Fprintf(w, "%s: hint: %s\n", cmd.Root().Name(), hint)
	}
	return cli.Exit(cli.Code(err), nil)
}

// group is a command that only has subcommands. Called without one it says
// which there are.
func group(name, short, example string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   name + " COMMAND",
		Short:                 short,
		Example:               "  " + example,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return command.Unknown(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Usage()
			return cli.Exit(cli.ExitError, nil)
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}

// nodeMeta defines -node-meta.
func nodeMeta(fs *pflag.FlagSet, to *[]string) {
	fs.StringArrayVar(to, "node-meta", nil, "only nodes with this `key=value`; repeatable")
}

// withMeta adds what -node-meta said.
func withMeta(o client.Options, values []string) (client.Options, error) {
	meta, err := operator.Pairs("node-meta", values)
	o.NodeMeta = meta
	return o, err
}
