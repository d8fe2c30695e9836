package command

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// long makes a command with more flags than fit a screen.
func longCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tool [flags]", Short: "do things", Long: "Tool does " + strings.Repeat("many ", 30) + "things.\n\n  kept  as it is\n\nThe end.", Example: "  tool -a\n\n  tool -b"}
	fs := cmd.Flags()
	fs.SortFlags = false
	for i := range 60 {
		name := fmt.Sprintf("flag-%d", i)
		fs.String(name, "", "`text`"+strings.Repeat(" much", 20)+"; and more")
		if i > 9 {
			Describe(fs.Lookup(name), fmt.Sprintf("Group%d", i%3), "_ENV", i%2 == 0)
		}
	}
	fs.String("other", "", "")
	Alias(fs.Lookup("other"), "flag-0")
	fs.String("old", "", NoEffect)
	Describe(fs.Lookup("old"), "", "", false)
	return cmd
}

func TestHelpFitsAScreen(t *testing.T) {
	var b bytes.Buffer
	if err := help(longCommand(), &b, false); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > maxHelpLines {
		t.Errorf("%d lines", len(lines))
	}
	if i := slices.IndexFunc(lines, func(l string) bool { return len(l) > 80 }); i >= 0 {
		t.Errorf("wider than 80: %q", lines[i])
	}
	for _, want := range []string{"Do things.\n", "Flags:\n  -flag-0 text  ", "  Group2", "-flag-17 ", "tool -help-all explains all flags"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"-flag-16 ", "-other", "-old", "and more", "The end"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is for -help-all:\n%s", not, text)
		}
	}
}

func TestHelpAll(t *testing.T) {
	var b bytes.Buffer
	if err := help(longCommand(), &b, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n  kept  as it is\n", "The end.", "tool -b", "Group1:\n", "-flag-16 text", "and more; env\n", "also -other", "Accepted, without effect:\n  -old\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}
