// Package execcmd is the exec command: the tool of that name, and the agent's
// subcommand.
package execcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/rexec"
	"github.com/muster-dev/muster/pkg/signed"
)

const long = `Exec runs a command on many nodes at once and shows what it writes and how it ends
on each. Filters are regular expressions; the targets are those that match when it
begins, nodes that have failed included. Nodes decide for themselves what they run:
remote execution is off unless their configuration enables it, and may be narrowed to
named jobs and to orders signed by a known SSH key.

A command of several words runs directly, one string with blanks by sh -c; -shell
overrides that. "-" takes a script from standard input.

Exit codes: 0 every target ran and returned 0; 2 some did not; 1 no node matches,
wrong flags, or interrupted. Ctrl-C stops the job on all nodes.

A shell has an exec of its own: type "env exec", or "agent exec".`

const examples = `  # On every node that runs the service web.
  %[1]s -service web uptime

  # Three at a time; begin no more once one has failed.
  %[1]s -service web -n 3 -max-fail 1 -timeout 1m 'systemctl reload nginx && sleep 5'

  # A script, with the result of each node as JSON.
  %[1]s -node '^db-' -o jsonl - <check.sh

  # A job that the nodes' configuration names, signed by an SSH key.
  %[1]s -service web -sign ~/.ssh/id_ed25519 -job restart-nginx

  # Who would be asked; what became of a job; the jobs of the last hour.
  %[1]s -service web -dry-run
  %[2]s status 5f3c1e0a-7f5e-4f0e-9a8e-0d2c4b6a8f10
  %[2]s status`

// options are the settings of the command.
type options struct {
	stdout, stderr *os.File
	table          *option.Table[file]
	paths          []string

	cfg    rexec.Config
	shell  *bool
	output string
	dry    bool
	sign   string
	level  slog.Level
}

// New makes the command; name is how it is called.
func New(name string, stdout, stderr *os.File) *cobra.Command {
	o := &options{stdout: stdout, stderr: stderr}
	typed := name
	if name == "exec" {
		typed = "env exec"
	}
	cmd := &cobra.Command{
		Use:     "exec [flags] COMMAND [ARGUMENT...] | -",
		Short:   "run a command on many nodes at once",
		Long:    long,
		Example: fmt.Sprintf(examples, typed, typed),

		DisableFlagsInUseLine: true,
	}
	start := file{Output: "text", Wait: rexec.DefaultWait, Valid: api.ExecOrderTTL, Prefix: rexec.DefaultPrefix, WaitRepl: rexec.DefaultWaitRepl}
	o.table = option.New(cmd.Flags(), start)
	o.table.Add(o.rows()...)
	o.table.Flags = cmd.PersistentFlags()
	o.table.Add(option.Option{Flag: "o", Also: "format", Group: "General", Help: "`format` of the output: text or jsonl"})
	connect.AddCommon(o.table.Add, &o.paths)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.load(); err != nil {
			return err
		}
		defer o.cfg.Client.CloseIdle()
		return o.run(cmd.Context(), args, cmd.InOrStdin())
	}
	cmd.AddCommand(o.statusCommand(typed), o.stopCommand(typed))
	return cmd
}

// rows are the options of a job.
func (o *options) rows() []option.Option {
	c := &o.cfg
	return []option.Option{
		{Flag: "node", To: &c.Node, Help: "only nodes whose name this `expression` matches"},
		{Flag: "service", To: &c.Service, Help: "only nodes with a service whose name or id this `expression` matches"},
		{Flag: "tag", To: &c.Tag, Help: "only where a tag of that service matches this `expression`"},
		{Flag: "dry-run", To: &o.dry, Help: "list the targets and run nothing"},
		{Flag: "n", Help: "`number` of nodes that run it at a time; 0: all"},
		{Flag: "max-fail", Help: "begin no more once this `number` of nodes has not returned 0; 0: never mind"},
		{Flag: "timeout", Help: "`time` that it may take on a node; then it is killed"},
		{Flag: "shell", Default: true, Help: "run it by sh -c (false: never); unset, only one string with blanks"},
		{Flag: "job", To: &c.Job, Help: "run this named `job` of the nodes' configuration; the arguments are its own"},
		{Flag: "sign", Help: "sign the order by this SSH key `file` (ed25519; a .pub file asks the ssh-agent)"},
		{Flag: "wait", Group: "More", Help: "`time` in which a node must answer that it begins"},
		{Flag: "valid", Group: "More", Help: "`time` in which nodes may begin it"},
		{Flag: "verbose", Group: "More", Help: "say more of what happens"},
		{Flag: "prefix", Group: "More", Help: "`prefix` of the keys of the job; with a Consul only"},
		option.NoEffect("stale", false),
		{Flag: "wait-repl", Group: "More", Help: "`time` for the job to reach all servers; with a Consul only"},
	}
}

// show prints a job.
type show interface {
	rexec.Display
	End(r rexec.Result, took time.Duration)
}

func (o *options) show() (show, error) {
	switch o.output {
	case "text":
		return &rexec.Text{Out: o.stdout, Err: o.stderr, Progress: cli.Terminal(o.stderr), Verbose: o.cfg.Verbose, Level: o.level}, nil
	case "jsonl":
		return &rexec.JSONLines{Out: o.stdout, Err: o.stderr, Level: o.level}, nil
	}
	return nil, command.Usagef("-o %q is neither text nor jsonl", o.output)
}

// file is a configuration file. The command and the targets are flags only.
type file struct {
	connect.Settings `conf:",squash"`

	N        int           `conf:"n"`
	MaxFail  int           `conf:"max_fail"`
	Timeout  time.Duration `conf:"timeout"`
	Wait     time.Duration `conf:"wait"`
	Shell    *bool         `conf:"shell"`
	Sign     string        `conf:"sign"`
	Valid    time.Duration `conf:"valid"`
	Verbose  bool          `conf:"verbose"`
	Output   string        `conf:"o|output"`
	Prefix   string        `conf:"prefix"`
	WaitRepl time.Duration `conf:"wait_repl"`
}

// load reads the configuration files, and makes the client.
func (o *options) load() error {
	f, agent, err := connect.Open(o.table, "exec", o.paths, o.stderr)
	if err != nil {
		return err
	}
	o.level, o.output, o.sign, o.shell = agent.Level, f.Output, f.Sign, f.Shell
	c := &o.cfg
	c.Client, c.Verbose, c.Prefix, c.WaitRepl = agent.Client, f.Verbose, f.Prefix, f.WaitRepl
	c.Parallel, c.MaxFail, c.Timeout, c.Wait, c.Valid = f.N, f.MaxFail, f.Timeout, f.Wait, f.Valid
	return nil
}

func (o *options) run(ctx context.Context, args []string, stdin io.Reader) error {
	cli.SurviveSIGPIPE() // the reader of the output may end; the job is followed to its end
	c := &o.cfg
	printer, err := o.show()
	if err != nil {
		return err
	}
	if err := o.setCommand(args, stdin); err != nil {
		return err
	}
	c.Display = printer
	if o.dry {
		return o.list(ctx)
	}
	ctx, stop := cli.SignalContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	if o.sign != "" {
		if c.Signer, err = signed.Open(o.sign, passphrase(ctx, o.sign)); err != nil {
			return err
		}
		defer func() { _ = c.Signer.Close() }()
	}
	c.By = whoami()
	began := time.Now()
	result, err := rexec.Run(ctx, o.cfg)
	printer.End(result, time.Since(began))
	return outcome(result, err)
}

// outcome is the exit code of a job's result.
func outcome(result rexec.Result, err error) error {
	switch {
	case errors.Is(err, rexec.ErrNoTargets):
		return cli.Hint(cli.ExitError, err, "-dry-run lists the targets; \"agent members\" lists the nodes")
	case err != nil:
		return err
	case !result.OK():
		return cli.Exit(cli.ExitTarget, nil)
	}
	return nil
}

// setCommand sets the command, job or script to run.
func (o *options) setCommand(args []string, stdin io.Reader) error {
	c := &o.cfg
	switch {
	case c.Tag != "" && c.Service == "":
		return command.Usagef("Cannot provide tag filter without service filter.")
	case c.Parallel < 0 || c.MaxFail < 0 || c.Timeout < 0 || c.Wait <= 0 || c.Valid <= 0:
		return command.Usagef("-n, -max-fail, -timeout, -wait and -valid cannot be below zero, nor the last two zero")
	case o.dry:
		return nil
	case c.Job != "":
		c.Args = args
		return nil
	case len(args) == 0:
		return command.Usagef("Must specify a command to execute")
	case args[0] == "-":
		if o.shell != nil && !*o.shell {
			return command.Usagef("Cannot use a script from standard input with -shell=false")
		}
		script, err := io.ReadAll(io.LimitReader(stdin, api.MaxExecOrder+1))
		if err != nil {
			return fmt.Errorf("read the script from standard input: %w", err)
		}
		if len(script) == 0 || len(script) > api.MaxExecOrder {
			return fmt.Errorf("the script on standard input has %d bytes or more: it must have 1 to %d", len(script), api.MaxExecOrder)
		}
		c.Script, c.Args = script, args[1:]
		return nil
	}
	c.Shell = len(args) == 1 && strings.ContainsAny(strings.TrimSpace(args[0]), " \t\n")
	if o.shell != nil {
		c.Shell = *o.shell
	}
	if c.Command = args; c.Shell {
		c.Command = []string{strings.Join(args, " ")}
	}
	return nil
}

func (o *options) list(ctx context.Context) error {
	found, err := rexec.Targets(ctx, o.cfg)
	if err != nil {
		return outcome(rexec.Result{}, err)
	}
	if o.output == "jsonl" {
		return o.jsonl(len(found), func(i int) any { return found[i] })
	}
	for _, t := range found {
		note := ""
		if !t.Alive {
			note = "\tfailed: it will be lost"
		}
		_, _ = fmt.Fprintf(o.stdout, "%s%s\n", t.Node, note)
	}
	return nil
}

// whoami names the user and host, for the nodes' logs. It is not verified.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
