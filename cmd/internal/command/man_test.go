package command

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
)

func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	var ran string
	var out, errs bytes.Buffer
	root := tree(&ran)
	root.Short, root.Example = "gathers machines", "  agent -port 1\n  .dots -- 'x'"
	root.SetOut(&out)
	if code := (Main{Root: root, UsageCode: 1, Stderr: &errs}).Run(context.Background(), args); code != 0 || ran != "" {
		t.Fatalf("%q: code %d, ran %q: %s", args, code, ran, errs.String())
	}
	return out.String()
}

// A completion has as many dashes as were typed.
func TestComplete(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{""}, "kv\tkeys\n"},
		{[]string{"k"}, "kv\tkeys\n"},
		{[]string{"kv", "p"}, "put\twrite\n"},
		{[]string{"-po"}, "-port\ta port\n"},
		{[]string{"kv", "put", "-p"}, "-port\ta number\n"},
		{[]string{"--po"}, "--port\ta port\n"},
		{[]string{"-port", "1", "kv", "put", "-c"}, "-cas\tcompare first\n"},
	} {
		if got := outputOf(t, append([]string{"__complete"}, c.args...)...); !strings.Contains("\n"+got, "\n"+c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := outputOf(t, "completion", shell); !strings.Contains(got, "__complete") {
			t.Errorf("completion %s: %.100q", shell, got)
		}
	}
}

func TestMan(t *testing.T) {
	page := outputOf(t, "man")
	for _, want := range []string{
		".SH NAME\nmuster\\-agent \\- gathers machines\n", ".TP\n.B \\-port string\na port\n", ".SS \"kv put KEY VALUE", ".TP\n.B \\-cas\ncompare first\n",
		".SH EXAMPLES\n.nf\n  agent \\-port 1\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not here to read it")
	}
	cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
