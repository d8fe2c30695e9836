package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/pkg/cli"
)

// addVersion gives root the subcommand "version", unless it has one of its own, and
// -v and -version, which do the same.
func addVersion(root *cobra.Command) {
	version := findCommand(root, "version")
	if version == nil {
		version = &cobra.Command{
			Use: "version", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
			Short: "print the version",
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s (muster)\n", root.Name(), cli.Version())
				return err
			},
		}
		root.AddCommand(version)
	}
	asked := root.Flags().BoolP("version", "v", false, "print the version")
	run := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *asked {
			version.SetContext(cmd.Context())
			return version.RunE(version, nil)
		}
		return run(cmd, args)
	}
}

// findCommand is the subcommand of that name, nil if there is none.
func findCommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}
