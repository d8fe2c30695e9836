package lockcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/lock"
)

// lockCommand makes a subcommand about locks. Its argument, if use names one, is required
// unless it is in brackets.
func (c *common) lockCommand(use, short, example string, own []option.Option, run func(ctx context.Context, c *client.Client, arg string, out io.Writer) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: strings.ReplaceAll(example, "%", c.tool), DisableFlagsInUseLine: true}
	name, optional := "", false
	if words := strings.Fields(use); len(words) > 2 {
		name = words[2]
		optional = strings.HasPrefix(name, "[")
	}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && name != "" && !optional:
			return command.Usagef("%s must be specified", name)
		case len(args) > 1 || len(args) == 1 && name == "":
			return command.Usagef("unexpected argument %q", args[len(args)-1])
		}
		return nil
	}
	option.Define(cmd.Flags(), own...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, s, err := connect.Open(c.table, "lock", c.paths, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer s.Client.CloseIdle()
		return run(cmd.Context(), s.Client, strings.Join(args, ""), cmd.OutOrStdout())
	}
	return command.FlagsAnywhere(cmd)
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (c *common) lsCommand() *cobra.Command {
	output := "text"
	return c.lockCommand("ls [flags] [PREFIX]", "list the locks that are held or waited for", "  % ls\n  % ls svc/\n  % ls -json",
		option.Output(&output, "text", "json"), func(ctx context.Context, c *client.Client, prefix string, out io.Writer) error {
			all, err := lock.List(ctx, c, prefix)
			switch {
			case err != nil:
				return err
			case output == "json":
				return writeJSON(out, append([]lock.Status{}, all...))
			}
			w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "PREFIX\tHELD\tWAITING\tHOLDERS")
			for _, s := range all {
				var who []string
				for _, h := range s.Holders {
					who = append(who, holderName(h))
				}
				_, _ = fmt.Fprintf(w, "%s\t%d/%d\t%d\t%s\n", s.Prefix, len(s.Holders), s.Slots, len(s.Waiters), strings.Join(who, " "))
			}
			return w.Flush()
		})
}

// holderName is the host and process of a holder.
func holderName(h lock.HolderStatus) string {
	host := h.Host
	if host == "" {
		host = h.Node
	}
	if h.PID == 0 {
		return host
	}
	return host + "/" + strconv.Itoa(h.PID)
}

func (c *common) showCommand() *cobra.Command {
	output := "text"
	return c.lockCommand("show [flags] PREFIX|KEY", "say who holds a lock and who waits for it", "  % show deploy/\n  % show -json deploy/\n  % show leader/scheduler",
		option.Output(&output, "text", "json"), func(ctx context.Context, c *client.Client, prefix string, out io.Writer) error {
			s, err := lock.Show(ctx, c, prefix)
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(out, s)
			}
			w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
			_, _ = fmt.Fprintf(w, "Prefix:\t%s\nHeld:\t%d/%d\nWaiting:\t%d\n", s.Prefix, len(s.Holders), s.Slots, len(s.Waiters))
			for _, h := range s.Holders {
				_, _ = fmt.Fprintf(w, "\nHolder:\t%s\nNode:\t%s\nToken:\t%d\nSession:\t%s\nName:\t%s\n", holderName(h), h.Node, h.Token, h.Session, h.Name)
				for _, line := range [][2]string{{"Command", h.Command}, {"Value", h.Value}, {"TTL", h.TTL}} {
					if line[1] != "" {
						_, _ = fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1])
					}
				}
				if !h.Since.IsZero() {
					_, _ = fmt.Fprintf(w, "Since:\t%s (%v)\n", h.Since.Format(time.RFC3339), time.Since(h.Since).Round(time.Second))
				}
			}
			for _, h := range s.Waiters {
				_, _ = fmt.Fprintf(w, "\nWaiter:\t%s\nSession:\t%s\nName:\t%s\n", h.Node, h.Session, h.Name)
			}
			return w.Flush()
		})
}

func (c *common) breakCommand() *cobra.Command {
	var session string
	var token uint64
	output := "text"
	return c.lockCommand("break [flags] PREFIX|KEY", "take a lock away from those who hold it", "  % break deploy/\n  % break -fence 4711 deploy/\n  % break -session adf4238a-882b-9ddc-4a9d-5b6758e4159e svc/web",
		append([]option.Option{
			{Flag: "session", To: &session, Help: "break only the hold of this session `id`"},
			{Flag: "fence", To: &token, Help: "break only the hold with this LOCK_TOKEN `number`"},
		}, option.Output(&output, "text", "json")...), func(ctx context.Context, c *client.Client, prefix string, out io.Writer) error {
			broken, err := lock.Break(ctx, c, prefix, session, token)
			if output == "json" && broken != nil {
				return errors.Join(writeJSON(out, broken), err)
			}
			for _, h := range broken {
				_, _ = fmt.Fprintf(out, "Broken: %s, token %d, session %s, held by %s\n", h.Key, h.Token, h.Session, holderName(h))
			}
			return err
		})
}

func (c *common) verifyCommand() *cobra.Command {
	var key, session, token string
	return c.lockCommand("verify [flags]", "say by exit code whether a lock is still held (0) or not (76)", "  % verify && ./next-step          # inside a lock's command\n  % verify -key deploy/.lock -fence 4711\n  % verify -key deploy/.lock -session adf4238a-882b-9ddc-4a9d-5b6758e4159e",
		[]option.Option{
			{Flag: "key", To: &key, Help: "`key`, or prefix, of the lock that has to be held (env LOCK_KEY)"},
			{Flag: "fence", To: &token, Help: "`number` of the acquisition that has to hold it (env LOCK_TOKEN)"},
			{Flag: "session", To: &session, Help: "session `id` that has to hold it (env LOCK_SESSION)"},
		}, func(ctx context.Context, c *client.Client, _ string, out io.Writer) error {
			if token == "" && session == "" {
				token, session = os.Getenv("LOCK_TOKEN"), os.Getenv("LOCK_SESSION")
			}
			if key == "" {
				key = os.Getenv("LOCK_KEY")
			}
			n, err := strconv.ParseUint(token, 10, 64)
			if token == "" {
				n, err = 0, nil
			}
			switch {
			case key == "" || token == "" && session == "":
				return command.Usagef("-key, and -fence or -session, must be specified: there is no LOCK_KEY in the environment")
			case err != nil:
				return command.Usagef("invalid value %q for flag -fence: want a number", token)
			}
			err = lock.Verify(ctx, c, key, session, n)
			if errors.Is(err, lock.ErrNotHeld) {
				return cli.Exit(cli.ExitLockLost, err)
			}
			return err
		})
}

func (c *common) leaderCommand() *cobra.Command {
	output := "text"
	return c.lockCommand("leader [flags] NAME", "print what the leader of a name publishes", "  % leader scheduler\n  curl http://$(% leader scheduler):8080/\n  % leader -json scheduler",
		option.Output(&output, "text", "json"), func(ctx context.Context, c *client.Client, name string, out io.Writer) error {
			s, err := lock.Show(ctx, c, lock.LeaderPrefix(name))
			if err == nil && len(s.Holders) == 0 {
				err = fmt.Errorf("%w: nobody leads %s", lock.ErrNotHeld, name)
			}
			if err != nil {
				return err
			}
			h := s.Holders[0]
			switch {
			case output == "json":
				return writeJSON(out, h)
			case h.Value != "":
				_, err = fmt.Fprintln(out, h.Value)
			default:
				_, err = fmt.Fprintln(out, holderName(h))
			}
			return err
		})
}
