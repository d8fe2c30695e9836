// Package command runs a cobra command the way all of muster's mains do: flags
// with one dash or two, errors on one line, exit codes by package cli.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/cli"
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

// Run executes the command that args name and returns the exit code. The error,
// if there is one, has been printed.
func (m Main) Run(ctx context.Context, args []string) int {
	root := m.Root
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetErr(m.Stderr)
	root.SetUsageFunc(usage)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &UsageError{cli.FlagError(err)} })
	addVersion(root)
	root.AddCommand(man(root))
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
		_ = usageTo(m.Stderr, cmd)
		return exitNoCommand
	case errors.As(err, &wrong):
		_, _ = fmt.Fprintf(m.Stderr, "usage: %s\n%s: hint: %q lists the flags\n", cmd.UseLine(), m.Root.Name(), cmd.CommandPath()+" -h")
		return m.UsageCode
	}
	return cli.Code(err)
}

// Unknown says that there is no such subcommand; the Args of a command that
// runs without one may return it.
func Unknown(name string) error { return &unknownCommand{name} }

type unknownCommand struct{ name string }

func (e *unknownCommand) Error() string { return fmt.Sprintf("unknown command %q", e.name) }

// rewrite walks the command line down the tree of commands and puts all flags
// into the form that pflag cannot misread. It returns the command reached.
func rewrite(cmd *cobra.Command, args []string) (*cobra.Command, []string, error) {
	var out []string
	for {
		cmd.InitDefaultHelpFlag()
		cmd.InheritedFlags() // merges the parents' persistent flags into Flags
		split, err := cli.Split(cmd.Flags(), args)
		if err != nil {
			return cmd, nil, &UsageError{err}
		}
		out = append(out, split.Flags...)
		sub := subcommand(cmd, split)
		if sub != nil {
			out = append(out, sub.Name())
			cmd, args = sub, split.Rest[1:]
			continue
		}
		if len(split.Rest) > 0 && !cmd.Runnable() {
			return cmd, nil, &unknownCommand{split.Rest[0]}
		}
		if cmd.Annotations[flagsAnywhere] != "" && !split.Dash {
			if split, err = gather(cmd, split); err != nil {
				return cmd, nil, &UsageError{err}
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

// gather tells the flags from the arguments in what stands behind the first argument.
func gather(cmd *cobra.Command, from cli.Args) (cli.Args, error) {
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

// subcommand is the one that the first positional argument names, unless "--"
// said that it is none. Cobra's own (help, completion) are made on the fly.
func subcommand(cmd *cobra.Command, args cli.Args) *cobra.Command {
	if args.Dash || len(args.Rest) == 0 {
		return nil
	}
	if cmd == cmd.Root() && cmd.HasSubCommands() {
		cmd.InitDefaultHelpCmd()
		cmd.InitDefaultCompletionCmd()
	}
	return named(cmd, args.Rest[0])
}

// usage is cobra's usage with one dash before flags.
func usage(cmd *cobra.Command) error { return usageTo(cmd.OutOrStderr(), cmd) }

func usageTo(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", strings.TrimRight(cmd.Example, "\n"))
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s", Flags(cmd.LocalFlags()))
	}
	if cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(&b, "\nGlobal flags:\n%s", Flags(cmd.InheritedFlags()))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Flags lists flags for a help text, one line each.
func Flags(fs *pflag.FlagSet) string {
	type line struct{ left, right string }
	var lines []line
	width := 0
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		left, text := flagText(f)
		left = "  " + left
		width = max(width, len(left))
		lines = append(lines, line{left, text})
	})
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-*s  %s\n", width, l.left, l.right)
	}
	return b.String()
}

// flagText is how a flag is written, and what it does.
func flagText(f *pflag.Flag) (left, text string) {
	kind, text := pflag.UnquoteUsage(f)
	left = "-" + f.Name
	if f.Shorthand != "" {
		left = "-" + f.Shorthand + ", -" + f.Name
	}
	if kind != "" {
		left += " " + kind
	}
	if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && d != "[]" {
		text += fmt.Sprintf(" (default %s)", d)
	}
	return left, text
}
