package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/status"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/offline"
)

// offlineOptions are flags that only the subcommands have.
type offlineOptions struct {
	fixture string
	update  bool
	out     string
}

// offlineCommands are those that look at templates without keeping files.
func offlineCommands(stdout, stderr *os.File) []*cobra.Command {
	add := func(use, short, long string, live bool, run func(context.Context, *options) error) (*cobra.Command, *options) {
		o := &options{stdout: stdout, stderr: stderr}
		cmd := &cobra.Command{
			Use: use, Short: short, Long: long,
			Args: func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return command.Usagef("unexpected argument %q", args[0])
				}
				return nil
			},
		}
		o.addTemplates(cmd.Flags())
		o.Add(o.Connection()...)
		if !live {
			hideAll(cmd)
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return run(ctx, o)
		}
		return cmd, o
	}
	test, o := add("test -fixture FILE -template SOURCE:GOLDEN [flags]", "render from a fixture and compare with a golden file",
		longTest, false, runTest)
	o.Add(option.Option{Flag: "fixture", To: &o.offline.fixture, Help: "JSON `file` of queries and answers, see tmpl record"},
		option.Option{Flag: "update", To: &o.offline.update, Help: "write the golden files instead of comparing with them"})
	record, o := add("record -template SOURCE [flags]", "write the data that templates ask for now into a fixture",
		longRecord, true, runRecord)
	o.Add(option.Option{Flag: "out", Also: "o", To: &o.offline.out, Help: "`file` to write (else: standard output)"})
	differ, _ := add("diff -template SOURCE:DESTINATION [flags]", "show what would change in the files now", longDiff, true, runDiff)
	explain, o := add("explain {-template SOURCE | -status-addr ADDRESS} [flags]", "show what templates ask for, and what caused the last rendering",
		longExplain, true, runExplain)
	o.Add(option.Option{Flag: "status-addr", To: &o.StatusAddr, Help: "`address` of a tmpl that runs: show its state instead"})
	return []*cobra.Command{test, record, differ, explain}
}

const (
	longTest = `Test renders templates from a fixture and compares the text with golden files. No
agent is asked. Exit code 0: equal; 1: not, with a diff; 14: a template is wrong,
or the fixture lacks what it asks for.

A fixture is JSON: the query as the HTTP API has it, and what it answers.

  {"/v1/kv/app/name": [{"Key": "app/name", "Value": "YmlsbGluZw=="}],
   "/v1/health/service/web?passing=1": [], "/v1/kv/none": null}

Functions that read the environment and local files read the real ones.`
	longRecord = `Record renders templates from live data, each look-up asked once, and writes the
answers as a fixture for tmpl test. A key that is not there is recorded as null.`
	longDiff = `Diff renders templates from live data and shows what would change in their files.
It writes nothing. Exit code 0: nothing would change; 1: something would.`
	longExplain = `Explain renders templates from live data and lists what each asks for and how many
requests that takes. With -status-addr it asks a tmpl that runs with that flag:
its state, and which look-ups caused the last rendering.`
)

// hideAll takes flags out of the help that the command accepts but does not need.
func hideAll(cmd *cobra.Command) {
	keep := map[string]bool{"template": true, "config": true, "left-delimiter": true, "right-delimiter": true}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !keep[f.Name] {
			_ = cmd.Flags().MarkHidden(f.Name)
		}
	})
}

// prepare reads flags and configuration.
func (o *options) prepare() (*settings, error) {
	s, err := o.load(os.Environ())
	if err != nil {
		return nil, err
	}
	for _, text := range s.warnings {
		_, _ = fmt.Fprintf(o.stderr, "tmpl: warning: %s\n", text)
	}
	return s, nil
}

// exit gives an error of package offline its exit code.
func exit(err error) error {
	switch {
	case errors.Is(err, offline.ErrDiffers):
		return cli.Exit(cli.ExitError, nil)
	case err == nil || cli.Code(err) != cli.ExitError:
		return err
	}
	return cli.Exit(cli.ExitRun, err)
}

func runTest(ctx context.Context, o *options) error {
	if o.offline.fixture == "" {
		return command.Usagef("no -fixture given")
	}
	s, err := o.prepare()
	if err != nil {
		return err
	}
	fixture, err := offline.ReadFixture(o.offline.fixture)
	if err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	return exit(offline.Test(ctx, s.tool.Templates, fixture, o.offline.update, o.stdout))
}

func runRecord(ctx context.Context, o *options) error {
	s, err := o.prepare()
	if err != nil {
		return err
	}
	fixture, warnings, err := offline.Record(ctx, s.tool.Templates, offline.Live(s.tool.Client))
	if err != nil {
		return exit(err)
	}
	for _, text := range warnings {
		_, _ = fmt.Fprintf(o.stderr, "tmpl: warning: %s\n", text)
	}
	if o.offline.out != "" {
		return exit(os.WriteFile(o.offline.out, fixture, 0o644))
	}
	_, err = o.stdout.Write(fixture)
	return err
}

func runDiff(ctx context.Context, o *options) error {
	s, err := o.prepare()
	if err != nil {
		return err
	}
	for _, t := range s.tool.Templates {
		if t.Destination == "" {
			return cli.Hint(cli.ExitConfig, fmt.Errorf("template %s has no destination", t.Source), "write -template source:destination")
		}
	}
	return exit(offline.Diff(ctx, s.tool.Templates, offline.Live(s.tool.Client), o.stdout))
}

func runExplain(ctx context.Context, o *options) error {
	if o.StatusAddr != "" {
		return exit(explainRunning(ctx, o.stdout, o.StatusAddr))
	}
	s, err := o.prepare()
	if err != nil {
		return err
	}
	return exit(offline.Explain(ctx, s.tool.Templates, offline.Live(s.tool.Client), o.stdout))
}

// explainRunning prints the state of a tmpl that runs.
func explainRunning(ctx context.Context, w io.Writer, addr string) error {
	c, base := status.Client(addr)
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/status", nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("ask the tmpl on %s: %w", addr, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the tmpl on %s: it answers %s", addr, resp.Status)
	}
	var s tmpl.Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&s); err != nil {
		return fmt.Errorf("read the status of the tmpl on %s: %w", addr, err)
	}
	return offline.ExplainStatus(s, w)
}
