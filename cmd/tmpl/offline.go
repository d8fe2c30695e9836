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
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/status"
	"github.com/muster-dev/muster/cmd/internal/toolflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/tmpl"
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
		fs := cmd.Flags()
		o.Flags = toolflags.New(fs, "tmpl")
		o.addTemplates(fs)
		o.AddConnection()
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
	test.Flags().StringVar(&o.offline.fixture, "fixture", "", "JSON `file` of queries and answers, see tmpl record")
	test.Flags().BoolVar(&o.offline.update, "update", false, "write the golden files instead of comparing with them")
	record, o := add("record -template SOURCE [flags]", "write the data that templates ask for now into a fixture",
		longRecord, true, runRecord)
	record.Flags().StringVar(&o.offline.out, "o", "", "`file` to write (else: standard output)")
	differ, _ := add("diff -template SOURCE:DESTINATION [flags]", "show what would change in the files now", longDiff, true, runDiff)
	explain, o := add("explain {-template SOURCE | -status-addr ADDRESS} [flags]", "show what templates ask for, and what caused the last rendering",
		longExplain, true, runExplain)
	explain.Flags().StringVar(&o.StatusAddr, "status-addr", "", "`address` of a tmpl that runs: show its state instead")
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

func gaveUp(err error) error {
	if err == nil || cli.Code(err) != cli.ExitError {
		return err
	}
	return cli.Exit(cli.ExitRun, err)
}

// complete is an error where a template could not be rendered.
func complete(all []tmpl.Rendering) error {
	var errs []error
	for _, r := range all {
		if len(r.Missing) > 0 {
			errs = append(errs, fmt.Errorf("render %s: it waits for %s", r.Source, strings.Join(r.Missing, ", ")))
		}
	}
	return gaveUp(errors.Join(errs...))
}

func runTest(ctx context.Context, o *options) error {
	if o.offline.fixture == "" {
		return command.Usagef("no -fixture given")
	}
	s, err := o.prepare()
	if err != nil {
		return err
	}
	fixture, err := tmpl.ReadFixture(o.offline.fixture)
	if err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	all, _, err := tmpl.Render(ctx, s.tool.Templates, fixture.Fetch)
	if err == nil {
		err = complete(all)
	}
	if err != nil {
		return gaveUp(err)
	}
	differ := false
	for _, r := range all {
		switch {
		case r.Destination == "":
			_, err = o.stdout.Write(r.Text)
		case o.offline.update:
			err = os.WriteFile(r.Destination, r.Text, 0o644)
		default:
			var not bool
			not, err = o.compare(r.Destination, "rendered "+r.Source, r.Text)
			differ = differ || not
		}
		if err != nil {
			return gaveUp(err)
		}
	}
	if differ {
		return cli.Exit(cli.ExitError, nil)
	}
	return nil
}

// compare prints how text differs from what a file holds.
func (o *options) compare(path, name string, text []byte) (differ bool, err error) {
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		path += " (not there)"
	case err != nil:
		return false, err
	case string(have) == string(text):
		return false, nil
	}
	_, err = o.stdout.Write(diff.Diff(path, have, name, text))
	return true, err
}

func runRecord(ctx context.Context, o *options) error {
	s, err := o.prepare()
	if err != nil {
		return err
	}
	fixture := tmpl.Fixture{}
	all, _, err := tmpl.Render(ctx, s.tool.Templates, fixture.Record(tmpl.Live(s.tool.Client)))
	if err != nil {
		return gaveUp(err)
	}
	data, err := fixture.Encode()
	if err != nil {
		return gaveUp(err)
	}
	for _, r := range all {
		if len(r.Missing) > 0 {
			_, _ = fmt.Fprintf(o.stderr, "tmpl: warning: %s cannot be rendered from this: it waits for %s\n", r.Source, strings.Join(r.Missing, ", "))
		}
	}
	if o.offline.out != "" {
		return gaveUp(os.WriteFile(o.offline.out, data, 0o644))
	}
	_, err = o.stdout.Write(data)
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
	all, _, err := tmpl.Render(ctx, s.tool.Templates, tmpl.Live(s.tool.Client))
	if err != nil {
		return gaveUp(err)
	}
	differ := false
	for _, r := range all {
		if len(r.Missing) > 0 {
			continue // its file would stay
		}
		not, err := o.compare(r.Destination, "rendered "+r.Source, r.Text)
		if err != nil {
			return gaveUp(err)
		}
		differ = differ || not
		for _, f := range r.Files {
			if f.Append {
				continue
			}
			not, err := o.compare(f.Path, "written by "+r.Source, f.Content)
			if err != nil {
				return gaveUp(err)
			}
			differ = differ || not
		}
	}
	if err := complete(all); err != nil || !differ {
		return err
	}
	return cli.Exit(cli.ExitError, nil)
}

func runExplain(ctx context.Context, o *options) error {
	if o.StatusAddr != "" {
		return gaveUp(explainRunning(ctx, o.stdout, o.StatusAddr))
	}
	s, err := o.prepare()
	if err != nil {
		return err
	}
	all, requests, err := tmpl.Render(ctx, s.tool.Templates, tmpl.Live(s.tool.Client))
	if err != nil {
		return gaveUp(err)
	}
	for _, r := range all {
		_, _ = fmt.Fprintf(o.stdout, "%s: %d look-ups, %d passes\n", arrow(r.Source, r.Destination), len(r.Queries), r.Passes)
		for _, q := range r.Queries {
			_, _ = fmt.Fprintf(o.stdout, "  GET %s\n", q)
		}
		for _, path := range r.Local {
			_, _ = fmt.Fprintf(o.stdout, "  file %s\n", path)
		}
		for _, what := range r.Missing {
			_, _ = fmt.Fprintf(o.stdout, "  waits for %s\n", what)
		}
	}
	_, err = fmt.Fprintf(o.stdout, "%d requests in all: look-ups that templates share are made once\n", requests)
	return err
}

func arrow(source, destination string) string {
	if destination == "" {
		return source
	}
	return source + " -> " + destination
}

// explainRunning shows what a tmpl that runs says of itself.
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
	for _, t := range s.Templates {
		_, _ = fmt.Fprintf(w, "%s: %s, replaced %d times\n", arrow(t.Source, t.Destination), t.State, t.Renders)
		if t.LastRender != nil {
			_, _ = fmt.Fprintf(w, "  last rendered %s, because of: %s\n", t.LastRender.Format("2006-01-02T15:04:05.000Z07:00"), because(t.Cause))
		}
		for _, q := range t.Queries {
			_, _ = fmt.Fprintf(w, "  follows %s\n", q)
		}
		for _, path := range t.Files {
			_, _ = fmt.Fprintf(w, "  file %s\n", path)
		}
		for _, what := range t.Missing {
			_, _ = fmt.Fprintf(w, "  waits for %s\n", what)
		}
		if t.LastError != "" {
			_, _ = fmt.Fprintf(w, "  last error: %s\n", t.LastError)
		}
	}
	_, err = fmt.Fprintf(w, "%d look-ups in all, %d without an answer now\n", s.Queries, len(s.Failing))
	return err
}

func because(cause []string) string {
	if len(cause) == 0 {
		return "the template itself, or a local file"
	}
	return strings.Join(cause, ", ")
}
