package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/cli"
)

// What the help has to know of a flag stands in its annotations.
const (
	groupOf = "group and environment"
	aliasOf = "alias of"
	rare    = "rare"
)

// NoEffect is the usage of a flag that is accepted without effect. It is hidden, but named
// by -help-all.
const NoEffect = "accepted, without effect"

func noEffect(f *pflag.Flag) bool { return f.Usage == NoEffect }

// Describe sets the heading of a flag ("": the main flags, which -help explains) and the
// environment Variables of the same meaning. Only -help-all lists a rare flag.
func Describe(f *pflag.Flag, group, env string, isRare bool) {
	f.Hidden = noEffect(f)
	if !f.Hidden && (group != "" || env != "" || isRare) {
		f.Annotations = map[string][]string{groupOf: {group, env}}
		if isRare {
			f.Annotations[rare] = nil
		}
	}
}

// Variables are the environment variables that a text names, separated by blanks. A name
// that begins with _ stands for two, those of muster and of Consul.
func Variables(text string) (names []string) {
	for _, name := range strings.Fields(text) {
		if strings.HasPrefix(name, "_") {
			names = append(names, "MUSTER"+name, "CONSUL"+name)
		} else {
			names = append(names, name)
		}
	}
	return names
}

// Alias makes f another spelling of the flag of that name: it is hidden, but from -help-all.
func Alias(f *pflag.Flag, of string) {
	f.Annotations = map[string][]string{aliasOf: {of}}
	f.Hidden = true
}

// mainFlags is the heading of the flags that -help explains.
const mainFlags = "Flags"

// maxHelpLines is how many lines -help may have.
const maxHelpLines = 40

// leftWidth is the largest width of the column of flags; a longer flag has a line of its
// own.
const leftWidth = 28

// addHelpAll gives a command, and all below it, the flag -help-all.
func addHelpAll(cmd *cobra.Command) {
	cmd.Flags().Bool(helpAll, false, "explain all flags")
	cmd.Flags().Lookup(helpAll).Hidden = true
	for _, sub := range cmd.Commands() {
		addHelpAll(sub)
	}
}

const helpAll = "help-all"

// help prints -help, or -help-all, to out.
func help(cmd *cobra.Command, out io.Writer, all bool) error {
	width := min(cli.Width(out), 120)
	p := page{cmd: cmd, out: out, width: width, all: all, long: cmd.Long, example: cmd.Example}
	text := p.String()
	paragraph, _, _ := strings.Cut(p.long, "\n\n")
	example, _, _ := strings.Cut(p.example, "\n\n")
	for _, shorten := range []func(){ // until it fits
		func() { p.long = paragraph }, func() { p.example = example }, func() { p.brief = true }, func() { p.long = "" },
		func() { p.groups, p.example = true, "" },
	} {
		if all || strings.Count(text, "\n") <= maxHelpLines {
			break
		}
		shorten()
		text = p.String()
	}
	_, err := io.WriteString(out, text)
	return err
}

// page is one help text.
type page struct {
	cmd           *cobra.Command
	out           io.Writer
	width         int
	all           bool // -help-all
	long, example string
	brief         bool // the texts of flags are shortened
	groups        bool // of the flags that are not explained only the headings are listed
}

func (p page) String() string {
	var b strings.Builder
	cmd, long, example := p.cmd, p.long, p.example
	if long == "" && cmd.Short != "" {
		first, size := utf8.DecodeRuneInString(cmd.Short)
		long = string(unicode.ToUpper(first)) + cmd.Short[size:] + "."
	}
	for _, paragraph := range strings.Split(strings.TrimSpace(long), "\n\n") {
		if !preformatted(paragraph) {
			paragraph = strings.Join(wrap(paragraph, p.width), "\n")
		}
		b.WriteString(paragraph + "\n\n")
	}
	fmt.Fprintf(&b, "%s\n  %s\n", p.heading("Usage"), cmd.UseLine())
	if subs := available(cmd); len(subs) > 0 {
		fmt.Fprintf(&b, "\n%s\n", p.heading("Commands"))
		for _, sub := range subs {
			b.WriteString(p.entry(sub.NamePadding(), sub.Name(), sub.Short))
		}
	}
	if example != "" {
		fmt.Fprintf(&b, "\n%s\n%s\n", p.heading("Examples"), strings.TrimRight(example, "\n"))
	}
	cmd.InheritedFlags() // merges them into Flags
	b.WriteString(p.flags(cmd.Flags()))
	return b.String()
}

func (p page) heading(text string) string { return cli.Bold(p.out, text+":") }

// flags lists the flags. -help-all explains all of them, -help the main ones; of the
// others it lists the names.
func (p page) flags(fs *pflag.FlagSet) string {
	l := list(fs, p.all)
	var b strings.Builder
	width := 0
	for _, group := range l.groups {
		width = max(width, len(group)+1)
	}
	for i, group := range l.groups {
		if group == mainFlags || p.all {
			fmt.Fprintf(&b, "\n%s\n%s", p.heading(group), p.explained(l, group))
			continue
		}
		if i == 0 || l.groups[i-1] == mainFlags {
			fmt.Fprintf(&b, "\n%s\n", p.heading("More flags"))
		}
		if p.groups {
			b.WriteString(p.entry(0, "", strings.Join(l.groups[i:], ", ")))
			break
		}
		b.WriteString(p.entry(width, group, names(l.in[group])))
	}
	switch {
	case p.all && len(l.none) > 0:
		fmt.Fprintf(&b, "\n%s\n%s", p.heading(unused), p.entry(0, "", names(l.none)))
	case !p.all && len(l.groups) > 1:
		fmt.Fprintf(&b, "\n%s -help-all explains all flags.\n", p.cmd.CommandPath())
	}
	return b.String()
}

// explained lists the flags of a group with their texts.
func (p page) explained(l listing, group string) string {
	var b strings.Builder
	left := p.column(l.in[group])
	for _, f := range l.in[group] {
		flag, text := flagText(f)
		switch {
		case p.brief && f.Name == "version": // there is a command for it
			continue
		case p.brief:
			text, _, _ = strings.Cut(strings.ReplaceAll(text, " (", ";"), ";")
		case p.all:
			text = l.text(f)
		}
		b.WriteString(p.entry(left, flag, text))
	}
	return b.String()
}

// listing is the flags of a command by their headings.
type listing struct {
	groups []string // the main flags first
	in     map[string][]*pflag.Flag
	also   map[string][]string // the other spellings of a flag
	none   []*pflag.Flag       // flags without effect
}

// unused is the heading of flags without effect.
const unused = "Accepted, without effect"

// list sorts flags by their headings; rare ones are left out unless all are wanted.
func list(fs *pflag.FlagSet, all bool) listing {
	l := listing{in: map[string][]*pflag.Flag{}, also: map[string][]string{}}
	fs.VisitAll(func(f *pflag.Flag) {
		if of := f.Annotations[aliasOf]; of != nil {
			l.also[of[0]] = append(l.also[of[0]], "-"+f.Name)
		}
		if noEffect(f) {
			l.none = append(l.none, f)
		}
		if _, isRare := f.Annotations[rare]; f.Hidden || f.Name == "help" || isRare && !all {
			return
		}
		group := mainFlags
		if g := f.Annotations[groupOf]; g != nil && g[0] != "" {
			group = g[0]
		}
		if l.in[group] == nil {
			l.groups = append(l.groups, group)
		}
		l.in[group] = append(l.in[group], f)
	})
	if i := slices.Index(l.groups, mainFlags); i > 0 {
		l.groups = slices.Insert(slices.Delete(l.groups, i, i+1), 0, mainFlags)
	}
	return l
}

// text is the full text of a flag, with its variables and aliases.
func (l listing) text(f *pflag.Flag) string {
	_, text := flagText(f)
	if g := f.Annotations[groupOf]; g != nil {
		text += joinAfter("; env ", Variables(g[1]))
	}
	return text + joinAfter("; also ", l.also[f.Name])
}

func joinAfter(before string, words []string) string {
	if len(words) == 0 {
		return ""
	}
	return before + strings.Join(words, ", ")
}

func names(flags []*pflag.Flag) string {
	var out []string
	for _, f := range flags {
		out = append(out, "-"+f.Name)
	}
	return strings.Join(out, " ")
}

// column is the width of the flags' names and values.
func (p page) column(flags []*pflag.Flag) (width int) {
	for _, f := range flags {
		if left, _ := flagText(f); len(left) <= leftWidth {
			width = max(width, len(left))
		}
	}
	return width
}

// entry is a name and its text, which is wrapped beside it.
func (p page) entry(width int, name, text string) string {
	indent := "\n" + strings.Repeat(" ", width+4)
	lines := wrap(text, max(p.width-width-4, 20))
	if name == "" && width == 0 {
		return "  " + strings.Join(lines, "\n  ") + "\n"
	}
	out := fmt.Sprintf("  %-*s  ", width, name)
	if utf8.RuneCountInString(name) > width {
		out = "  " + name + indent
	}
	return strings.TrimRight(out+strings.Join(lines, indent), " \n") + "\n"
}

// wrap breaks a text into lines of at most width characters, where its words allow that.
func wrap(text string, width int) (lines []string) {
	line, n := "", 0
	for _, word := range strings.Fields(text) {
		size := utf8.RuneCountInString(word)
		if n > 0 && n+1+size > width {
			lines = append(lines, line)
			line, n = "", 0
		}
		if n > 0 {
			line, n = line+" ", n+1
		}
		line, n = line+word, n+size
	}
	return append(lines, line)
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
