package command

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/pkg/cli"
)

// tree is a main with two levels, which notes what ran and with which arguments.
func tree(ran *string) *cobra.Command {
	note := func(name string) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			port, _ := cmd.Flags().GetString("port")
			*ran = strings.TrimSpace(name + " " + port + " " + strings.Join(args, ","))
			return nil
		}
	}
	root := &cobra.Command{Use: "agent", RunE: note("root"), Args: cobra.ArbitraryArgs}
	root.Flags().String("port", "", "a port")
	kv := &cobra.Command{Use: "kv", Short: "keys"}
	put := &cobra.Command{Use: "put KEY VALUE", Short: "write", RunE: note("put")}
	put.Flags().String("port", "", "a `number`")
	put.Flags().Bool("cas", false, "compare first")
	fail := &cobra.Command{Use: "fail", RunE: func(*cobra.Command, []string) error {
		return cli.Hint(7, errors.New("no"), "say yes")
	}}
	bad := &cobra.Command{Use: "bad", RunE: func(*cobra.Command, []string) error { return Usagef("too few arguments") }}
	kv.AddCommand(put, fail, bad)
	root.AddCommand(kv)
	return root
}

func TestRun(t *testing.T) {
	tests := []struct {
		args   string
		ran    string
		code   int
		stderr string
	}{
		{"-port -1", "root -1", 0, ""},
		{"kv put -port -1 -cas key -5", "put -1 key,-5", 0, ""},
		{"kv put --port=x key", "put x key", 0, ""},
		{"-- kv put", "root  kv,put", 0, ""},
		{"-port 1 other -x", "root 1 other,-x", 0, ""},
		{"kv nope", "", 127, `agent: error: unknown command "nope"`},
		{"kv put -nope", "", 1, "flag provided but not defined: -nope\nusage: agent kv put KEY VALUE [flags]\n"},
		{"kv put -cas=maybe", "", 1, `invalid value "maybe" for flag -cas`},
		{"kv fail", "", 7, "agent: error: no\nagent: hint: say yes\n"},
		{"kv bad", "", 1, "agent: error: too few arguments\nusage: agent kv bad"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var ran string
			var stderr bytes.Buffer
			m := Main{Root: tree(&ran), UsageCode: 1, Stderr: &stderr}
			code := m.Run(context.Background(), strings.Fields(tt.args))
			if ran != tt.ran || code != tt.code || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("ran %q, code %d, stderr %q", ran, code, &stderr)
			}
		})
	}
}

func TestHelpHasOneDash(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		var ran string
		var stdout bytes.Buffer
		root := tree(&ran)
		root.SetOut(&stdout)
		m := Main{Root: root, UsageCode: 1, Stderr: &bytes.Buffer{}}
		code := m.Run(context.Background(), []string{"kv", "put", flag})
		if code != 0 || !strings.Contains(stdout.String(), "  -port number  a number\n") {
			t.Errorf("%s: code %d\n%s", flag, code, &stdout)
		}
	}
}
