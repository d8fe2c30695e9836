package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/agent"
	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/operator"
)

func infoCommand() *cobra.Command {
	return subcommand{
		use:     "info [flags]",
		short:   "print figures of the agent, for operators",
		example: "agent info",
		run: func(ctx context.Context, s session) error {
			return operator.Info(ctx, s.Client, s.out)
		},
	}.command()
}

func reloadCommand() *cobra.Command {
	return subcommand{
		use:     "reload [flags]",
		short:   "make the agent read its configuration again",
		example: "agent reload",
		run: func(ctx context.Context, s session) error {
			return operator.Reload(ctx, s.Client, s.out)
		},
	}.command()
}

func maintCommand() *cobra.Command {
	var ch operator.MaintChange
	return subcommand{
		use:     "maint [flags]",
		short:   "take the node or a service out of service, and back",
		long:    "Maint takes this node, or one service on it, out of service or puts it back. Without -enable\nor -disable it lists what is out.",
		example: "agent maint -enable -service=web -reason='new disk'",
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&ch.Enable, "enable", false, "take out of service")
			fs.BoolVar(&ch.Disable, "disable", false, "put back")
			fs.StringVar(&ch.Reason, "reason", "", "`text` that says why, with -enable")
			fs.StringVar(&ch.Service, "service", "", "`id` of a service, instead of the whole node")
		},
		run: func(ctx context.Context, s session) error {
			return operator.Maint(ctx, s.Client, s.out, ch)
		},
	}.command()
}

func keygenCommand() *cobra.Command {
	return subcommand{
		use:     "keygen",
		short:   "make a key for gossip encryption (-encrypt)",
		example: "agent keygen",
		local:   true,
		run: func(_ context.Context, s session) error {
			operator.Keygen(s.out)
			return nil
		},
	}.command()
}

func versionCommand() *cobra.Command {
	format := "text"
	return subcommand{
		use:     "version [flags]",
		short:   "print the version",
		example: "agent version -o json",
		local:   true,
		flags: func(fs *pflag.FlagSet) {
			option.Define(fs, option.Output(&format, "text", "json")...)
		},
		run: func(_ context.Context, s session) error {
			return operator.Version(s.out, build(), format)
		},
	}.command()
}

// build is what this binary knows of itself.
func build() operator.Build {
	b := operator.Build{Version: cli.Version(), Revision: cli.Revision(), Date: "1970-01-01T00:00:01Z"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				b.Date = s.Value
			}
		}
	}
	return b
}

func validateCommand() *cobra.Command {
	var src config.Sources
	var quiet bool
	return subcommand{
		use:   "validate [flags] PATH...",
		short: "check configuration files",
		long: `Validate checks files and directories of configuration as the agent would at its start, and
starts nothing. Give all that the agent is to read: a part alone may lack what is required.`,
		example: "agent validate /etc/muster.d",
		local:   true,
		most:    many,
		missing: "Must specify at least one config file or directory",
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&src.Format, "config-format", "", "`format` of all files, whatever they are called: json, hcl, yaml or toml")
			fs.BoolVar(&quiet, "quiet", false, "say nothing when all is well")
		},
		run: func(_ context.Context, s session) error {
			src.Paths = s.args
			cfg, warnings, err := config.Load(src)
			if err == nil {
				err = agent.Validate(cfg)
			}
			if err != nil {
				return sentence(fmt.Sprintf("Config validation failed: %v", err))
			}
			if quiet {
				return nil
			}
			for _, w := range warnings {
				fmt.Fprintln(s.warn, w)
			}
			fmt.Fprintln(s.out, "Configuration is valid!")
			return nil
		},
	}.command()
}
