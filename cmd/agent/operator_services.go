package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/operator"
)

func servicesCommand() *cobra.Command {
	return group("services", "register services at the agent, and remove them",
		"agent services register -name=web -port=8080", registerCommand(), deregisterCommand())
}

func registerCommand() *cobra.Command {
	var f operator.ServiceFlags
	given := func() bool { return false }
	return subcommand{
		use:   "register [flags] [FILE...]",
		short: "register services",
		long: `Register registers the services that files define, as a configuration file of the agent
would, in JSON, HCL, YAML or TOML; or one service given by flags. They stay registered until
they are deregistered at the same agent.`,
		example: "agent services register -name=web -port=8080 -tag=v2",
		most:    many,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.ID, "id", "", "`id` of the service (its name)")
			fs.StringVar(&f.Name, "name", "", "`name` of the service")
			fs.StringVar(&f.Address, "address", "", "`address` of the service, if not the node's")
			fs.IntVar(&f.Port, "port", 0, "`port` of the service")
			fs.StringVar(&f.Socket, "socket", "", "`path` of the service's Unix socket")
			fs.StringArrayVar(&f.Tags, "tag", nil, "`tag`; repeatable")
			fs.StringArrayVar(&f.Meta, "meta", nil, "metadata, `key=value`; repeatable")
			fs.StringArrayVar(&f.TaggedAddresses, "tagged-address", nil, "further address, `key=address[:port]`; repeatable")
			fs.StringVar(&f.Kind, "kind", "", "`kind` of the service")
			given = anyOf(fs, "id", "name", "address", "port", "socket", "tag", "meta", "tagged-address", "kind")
		},
		run: func(ctx context.Context, s session) error {
			services, err := s.services("registration", "flags", given(), f)
			if err != nil {
				return err
			}
			return operator.RegisterServices(ctx, s.Client, s.out, services)
		},
	}.command()
}

func deregisterCommand() *cobra.Command {
	var f operator.ServiceFlags
	return subcommand{
		use:     "deregister [flags] [FILE...]",
		short:   "remove services",
		long:    "Deregister removes the services that files define, or the one with the given id.",
		example: "agent services deregister -id=web",
		most:    many,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.ID, "id", "", "`id` of the service")
		},
		run: func(ctx context.Context, s session) error {
			services, err := s.services("deregistration", "-id", f.ID != "", f)
			if err != nil {
				return err
			}
			return operator.DeregisterServices(ctx, s.Client, s.out, services)
		},
	}.command()
}

// anyOf tells, once the flags are parsed, whether one of these was given.
func anyOf(fs *pflag.FlagSet, names ...string) func() bool {
	return func() bool {
		for _, name := range names {
			if fs.Changed(name) {
				return true
			}
		}
		return false
	}
}

// services are those of the files that are the arguments, or the one that the
// flags describe.
func (s session) services(what, flags string, given bool, f operator.ServiceFlags) ([]*api.AgentServiceRegistration, error) {
	switch {
	case len(s.args) == 0 && !given:
		return nil, sentence(fmt.Sprintf("Service %s requires at least one argument or flags.", what))
	case len(s.args) > 0 && given:
		return nil, sentence(fmt.Sprintf("Service %s takes files or %s, not both.", what, flags))
	case given:
		one, err := f.Registration()
		return []*api.AgentServiceRegistration{one}, err
	}
	services, warnings, err := config.ReadServices(s.args)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		fmt.Fprintln(s.warn, w)
	}
	if len(services) == 0 {
		return nil, sentence(fmt.Sprintf("No service is defined in %q.", s.args))
	}
	return services, nil
}
