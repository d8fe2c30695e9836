package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/cli"
)

// man is the hidden subcommand that prints a binary's man page.
func man(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man", Hidden: true, Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Short: "print the man page",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Man(cmd.OutOrStdout(), root)
		},
	}
}

// Man writes the man page of a command and all that is below it, in roff's man
// macros.
func Man(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	name := root.Name()
	fmt.Fprintf(&b, ".TH %s 1 \"\" %s muster\n", roffArgument("MUSTER-"+strings.ToUpper(name)), roffArgument("muster "+cli.Version()))
	fmt.Fprintf(&b, ".SH NAME\nmuster\\-%s \\- %s\n", escapeRoff(name), escapeRoff(root.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", escapeRoff(root.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, root)
	if flags := options(root.LocalFlags()); flags != "" {
		b.WriteString(".SH OPTIONS\nOne dash or two before a name is the same.\n" + flags)
	}
	if subs := available(root); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			manSubcommand(&b, sub)
		}
	}
	examples(&b, ".SH EXAMPLES\n", root)
	b.WriteString(".SH SEE ALSO\nhttps://github.com/muster-dev/muster\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// manSubcommand describes a subcommand, then those below it.
func manSubcommand(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, ".SS %s\n", roffArgument(strings.TrimPrefix(cmd.UseLine(), cmd.Root().Name()+" ")))
	paragraphs(b, cmd)
	b.WriteString(options(cmd.LocalFlags()))
	examples(b, ".PP\nExamples:\n", cmd)
	for _, sub := range available(cmd) {
		manSubcommand(b, sub)
	}
}

func available(cmd *cobra.Command) (subs []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			subs = append(subs, sub)
		}
	}
	return subs
}

func paragraphs(b *strings.Builder, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if preformatted(p) {
			b.WriteString(".nf\n" + escapeRoff(p) + "\n.fi\n")
			continue
		}
		b.WriteString(escapeRoff(p) + "\n")
	}
}

// preformatted reports whether the lines of a paragraph must stay as they are.
func preformatted(paragraph string) bool {
	return strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ")
}

func examples(b *strings.Builder, head string, cmd *cobra.Command) {
	if cmd.HasExample() {
		b.WriteString(head + ".nf\n" + escapeRoff(strings.TrimRight(cmd.Example, "\n")) + "\n.fi\n")
	}
}

func options(fs *pflag.FlagSet) string {
	var b strings.Builder
	l := list(fs, true)
	for _, group := range l.groups {
		if group != mainFlags {
			fmt.Fprintf(&b, ".PP\n.B %s\n", escapeRoff(group))
		}
		for _, f := range l.in[group] {
			left, _ := flagText(f)
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escapeRoff(left), escapeRoff(l.text(f)))
		}
	}
	if len(l.none) > 0 {
		fmt.Fprintf(&b, ".PP\n.B %s\n.PP\n%s\n", unused, escapeRoff(names(l.none)))
	}
	return b.String()
}

// escapeRoff escapes what roff would read as a command.
func escapeRoff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// roffArgument quotes text as one argument of a macro.
func roffArgument(text string) string {
	return `"` + strings.ReplaceAll(escapeRoff(text), `"`, `\(dq`) + `"`
}
