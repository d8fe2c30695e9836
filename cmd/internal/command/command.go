// Package command runs a cobra command the way all of muster's mains do: flags
// with one dash or two, errors on one line, exit codes by package cli.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/conf"
)

// exitNoCommand is the exit code for a subcommand that does not exist.
const exitNoCommand = 127

// Main is one binary's command line.
type Main struct {
	Root      *cobra.Command
	UsageCode int // exit code for flags and arguments that are wrong
	Stderr    io.Writer
}

// UsageError is an error in how a command was called.
type UsageError struct{ Err error }

// Usagef makes a UsageError; a command's Args and RunE may return it.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// WrongValue is a UsageError about the value of a flag.
func WrongValue(flag, value string, err error) error {
	return Usagef("invalid value %q for flag -%s: %w", value, flag, err)
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Run executes the command that args name and returns the exit code. It prints the error,
// if there is one.
func (m Main) Run(ctx context.Context, args []string) int {
	root := m.Root
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetErr(m.Stderr)
	root.SetUsageFunc(func(cmd *cobra.Command) error { return help(cmd, cmd.OutOrStderr(), false) })
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		all, _ := cmd.Flags().GetBool(helpAll)
		_ = help(cmd, cmd.OutOrStdout(), all)
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &UsageError{cli.FlagError(err)} })
	addVersion(root)
	root.AddCommand(man(root))
	addHelpAll(root)
	if len(args) > 1 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return m.complete(ctx, args)
	}
	cmd, args, err := rewrite(root, args)
	if err != nil {
		return m.failed(cmd, err)
	}
	root.SetArgs(args)
	cmd, err = root.ExecuteContextC(ctx)
	return m.failed(cmd, err)
}

// failed prints err and gives its exit code.
func (m Main) failed(cmd *cobra.Command, err error) int {
	cli.Print(m.Stderr, m.Root.Name(), err)
	var wrong *UsageError
	var unknown *unknownCommand
	switch {
	case errors.As(err, &unknown):
		_ = help(cmd, m.Stderr, false)
		return exitNoCommand
	case errors.As(err, &wrong):
		_, _ = fmt.Fprintf(m.Stderr, "usage: %s\n%s: hint: %q lists the flags\n", cmd.UseLine(), m.Root.Name(), cmd.CommandPath()+" -h")
		return m.UsageCode
	}
	return cli.Code(err)
}

// Unknown is the error for a subcommand that cmd does not have; the Args of a command that
// runs without one may return it.
func Unknown(cmd *cobra.Command, name string) error {
	var names []string
	for _, sub := range available(cmd) {
		names = append(names, sub.Name())
	}
	return &unknownCommand{name, conf.Nearest(name, names)}
}

type unknownCommand struct{ name, near string }

func (e *unknownCommand) Error() string {
	text := fmt.Sprintf("unknown command %q", e.name)
	if e.near != "" {
		text += fmt.Sprintf(" (did you mean %q?)", e.near)
	}
	return text
}

// suggestFlag adds the most similar flag of cmd to the error about an unknown one.
func suggestFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*cli.UnknownFlag](err)
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !noEffect(f) {
			names = append(names, f.Name)
		}
	})
	unknown.Near = conf.Nearest(unknown.Name, names)
	return unknown
}

// rewrite finds the command that args name, and rewrites all flags to the form that pflag
// reads as cli.Split does. It returns that command.
func rewrite(cmd *cobra.Command, args []string) (*cobra.Command, []string, error) {
	var out []string
	for {
		cmd.InitDefaultHelpFlag()
		cmd.InheritedFlags() // merges the parents' persistent flags into Flags
		split, err := cli.Split(cmd.Flags(), args)
		if err != nil {
			return cmd, nil, &UsageError{suggestFlag(cmd, err)}
		}
		if slices.Contains(split.Flags, "--"+helpAll) {
			return cmd, append(out, "--help", "--"+helpAll), nil
		}
		out = append(out, split.Flags...)
		sub := subcommand(cmd, split)
		if sub != nil {
			out = append(out, sub.Name())
			cmd, args = sub, split.Rest[1:]
			continue
		}
		if len(split.Rest) > 0 && !cmd.Runnable() {
			return cmd, nil, Unknown(cmd, split.Rest[0])
		}
		if cmd.Annotations[flagsAnywhere] != "" && !split.Dash {
			if split, err = splitAnywhere(cmd, split); err != nil {
				return cmd, nil, &UsageError{suggestFlag(cmd, err)}
			}
			out = append(out, split.Flags...)
		}
		return cmd, append(out, cli.Args{Rest: split.Rest, Dash: split.Dash}.All()...), nil
	}
}

// flagsAnywhere marks a command whose flags may stand behind its arguments.
const flagsAnywhere = "flags-anywhere"

// FlagsAnywhere lets a command's flags stand behind its arguments too, up to "--". It is
// for commands whose arguments are names, never a command line with flags of its own.
func FlagsAnywhere(cmd *cobra.Command) *cobra.Command {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[flagsAnywhere] = "true"
	return cmd
}

// splitAnywhere separates the flags from the arguments behind the first argument.
func splitAnywhere(cmd *cobra.Command, from cli.Args) (cli.Args, error) {
	out := cli.Args{Dash: true}
	for rest := from.Rest; len(rest) > 0; {
		out.Rest = append(out.Rest, rest[0])
		more, err := cli.Split(cmd.Flags(), rest[1:])
		if err != nil {
			return out, err
		}
		out.Flags, rest = append(out.Flags, more.Flags...), more.Rest
		if more.Dash {
			out.Rest = append(out.Rest, more.Rest...)
			return out, nil
		}
	}
	return out, nil
}

// subcommand is the one that the first positional argument names, unless it follows "--".
// Cobra adds its own (help, completion) when it is asked to.
func subcommand(cmd *cobra.Command, args cli.Args) *cobra.Command {
	if args.Dash || len(args.Rest) == 0 {
		return nil
	}
	if cmd == cmd.Root() && cmd.HasSubCommands() {
		cmd.InitDefaultHelpCmd()
		cmd.InitDefaultCompletionCmd()
	}
	return findCommand(cmd, args.Rest[0])
}
