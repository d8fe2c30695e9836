package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/watch"
)

const long = `Tmpl renders templates from a catalog of services, nodes and keys, keeps the
files true while the data changes, and runs a command after it. Templates are
those of consul-template. It works with muster and with Consul.

A file is replaced as a whole or not at all, only when its content changes, and
after -check has accepted it. While no agent can be reached the last good file
stays and tmpl keeps trying.

SIGHUP reads the templates again. HUP (where -reload-signal is another), QUIT,
USR1, USR2 and WINCH go to the -exec command while it runs.

Exit codes: 0 done, or ended by SIGTERM; 12 ended by SIGINT, or by any signal
before -once was done; 13 wrong flags; 14 gave up, or a template is wrong; 15
wrong configuration; with -once that of the first command that failed.`

const examples = `  # Keep haproxy.cfg true; run ./reload after the first rendering and each change.
  tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload

  # Never put a file in place that HAProxy would refuse.
  tmpl -template haproxy.ctmpl:/etc/haproxy/haproxy.cfg -check 'haproxy -c -f {path}' \
       -exec 'systemctl reload haproxy'

  # Two files, each with a command of its own that runs when that file changed.
  tmpl -template 'a.ctmpl:a.conf:pkill -HUP a' -template 'b.ctmpl:b.conf:pkill -HUP b'

  # Render once and exit; or only look.
  tmpl -template a.ctmpl:a.conf -once -timeout 30s
  tmpl -template a.ctmpl:a.conf -dry -once`

// options are the flags.
type options struct {
	stdout, stderr *os.File

	conn       *connflags.Flags
	configs    []string
	templates  []string
	checks     []string
	leftDelim  string
	rightDelim string
	wait       string
	retry      time.Duration
	maxStale   time.Duration
	shell      string

	once, dry, parseOnly, version bool
	timeout                       time.Duration

	exec                     string
	execReload, execKill     string
	execKillTimeout          time.Duration
	execSplay                time.Duration
	execEnv                  cli.Env
	killSignal, reloadSignal string

	logLevel string
	logJSON  bool
	pidFile  string
}

func newCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tmpl -template SOURCE:DESTINATION[:COMMAND] [flags]",
		Short:   "render templates from live data and run a command after it",
		Long:    long,
		Example: examples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return command.Usagef("unexpected argument %q: a command of several words is one argument, -exec 'a b'", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return start(cmd.Context(), o) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringArrayVar(&o.templates, "template", nil, "`source:destination[:command]` to render, repeatable; write \\: for a colon in a path")
	fs.StringArrayVar(&o.checks, "check", nil, "`command` that must accept each new file before it replaces the old one; {path} is the new file")
	fs.StringVar(&o.wait, "wait", "", "`min[:max]` time without a change before files are written, and the longest time to wait for that")
	fs.BoolVar(&o.once, "once", false, "render once, run the commands, exit")
	fs.DurationVar(&o.timeout, "timeout", 0, "with -once: give up after this `time` (exit code 14)")
	fs.BoolVar(&o.dry, "dry", false, "print what would be written; write and run nothing")
	fs.BoolVar(&o.parseOnly, "parse-only", false, "only read and parse the templates")
	fs.StringVar(&o.leftDelim, "left-delimiter", "{{", "left `delimiter` of templates")
	fs.StringVar(&o.rightDelim, "right-delimiter", "}}", "right `delimiter` of templates")
	fs.StringVar(&o.leftDelim, "default-left-delimiter", "{{", "same as -left-delimiter")
	fs.StringVar(&o.rightDelim, "default-right-delimiter", "}}", "same as -right-delimiter")

	fs.StringVar(&o.exec, "exec", "", "`command` to run after the first complete rendering and after each that changed a file")
	fs.StringVar(&o.execReload, "exec-reload-signal", "", "`signal` for a command that still runs at a change (else it is stopped and started)")
	fs.StringVar(&o.execKill, "exec-kill-signal", "SIGINT", "`signal` that stops the command")
	fs.DurationVar(&o.execKillTimeout, "exec-kill-timeout", 30*time.Second, "`time` after which a command that was stopped is killed")
	fs.DurationVar(&o.execSplay, "exec-splay", 0, "random `time`, at most this, before a running command is signalled")
	fs.BoolVar(&o.execEnv.Pristine, "exec-env-pristine", false, "give the command none of our environment")
	fs.StringArrayVar(&o.execEnv.Custom, "exec-env-custom", nil, "`NAME=value` for the command's environment, repeatable")
	fs.StringArrayVar(&o.execEnv.Allow, "exec-env-allowlist", nil, "`pattern` of names to pass on, repeatable")
	fs.StringArrayVar(&o.execEnv.Deny, "exec-env-denylist", nil, "`pattern` of names not to pass on, repeatable")
	fs.StringVar(&o.shell, "shell", "", "`true` or false: run commands by sh -c, or never (else: one string with blanks does)")

	o.conn = connflags.Add(fs)
	o.conn.AddDatacenter()
	o.conn.AddConsul()
	fs.DurationVar(&o.retry, "retry", 0, "fixed `delay` before a retry, instead of one that doubles")
	fs.DurationVar(&o.maxStale, "max-stale", 0, "allow answers from any server that are at most so `old`")

	fs.StringVar(&o.killSignal, "kill-signal", "SIGINT", "`signal` that ends tmpl with exit code 12")
	fs.StringVar(&o.reloadSignal, "reload-signal", "SIGHUP", "`signal` that makes tmpl read the templates again")
	fs.StringVar(&o.pidFile, "pid-file", "", "`file` to write the process id to")
	fs.StringVar(&o.logLevel, "log-level", "info", "`level`: trace, debug, info, warn or error")
	fs.BoolVar(&o.logJSON, "log-json", false, "log as JSON")
	fs.StringArrayVar(&o.configs, "config", nil, "not supported yet: configuration `file`")
	fs.BoolVarP(&o.version, "version", "v", false, "print the version")
	return cmd
}

// config checks the flags and makes the Tool's configuration of them.
func (o *options) config(environ []string) (tmpl.Config, error) {
	if len(o.configs) > 0 {
		return tmpl.Config{}, cli.Hint(cli.ExitConfig,
			fmt.Errorf("read configuration %s: configuration files are not supported yet", o.configs[0]), "give templates and commands by flags, see tmpl -h")
	}
	if len(o.templates) == 0 && !o.once {
		return tmpl.Config{}, cli.Hint(cli.ExitConfig, fmt.Errorf("no template given"), "tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload")
	}
	level, err := logx.ParseLevel(o.logLevel)
	if err != nil {
		return tmpl.Config{}, wrong("log-level", o.logLevel, err)
	}
	cfg := tmpl.Config{
		Once: o.once, Timeout: o.timeout, Dry: o.dry, MaxStale: o.maxStale,
		Logger: logx.New(discardIfNil(o.stderr), level, o.logJSON),
		Stdout: o.stdout, Stderr: o.stderr,
	}
	if o.timeout != 0 && !o.once {
		return cfg, command.Usagef("-timeout goes with -once only")
	}
	if o.wait != "" {
		if cfg.Wait, err = tmpl.ParseWait(o.wait); err != nil {
			return cfg, wrong("wait", o.wait, err)
		}
	}
	if o.shell != "" {
		by, err := strconv.ParseBool(o.shell)
		if err != nil {
			return cfg, wrong("shell", o.shell, fmt.Errorf("want true or false"))
		}
		cfg.Shell = &by
	}
	if cfg.Templates, err = o.parseTemplates(); err != nil {
		return cfg, err
	}
	return o.connect(cfg, environ)
}

func (o *options) parseTemplates() ([]tmpl.Template, error) {
	if len(o.checks) > 1 {
		return nil, command.Usagef("-check is given twice: one check is for all templates")
	}
	if o.leftDelim == "" || o.rightDelim == "" {
		return nil, command.Usagef("a delimiter is empty")
	}
	var out []tmpl.Template
	at := map[string]string{}
	for _, spec := range o.templates {
		t, err := tmpl.ParseTemplate(spec)
		if err != nil {
			return nil, wrong("template", spec, err)
		}
		if other, twice := at[t.Destination]; twice && t.Destination != "" {
			return nil, wrong("template", spec, fmt.Errorf("template %s has the same destination", other))
		}
		at[t.Destination] = t.Source
		t.LeftDelim, t.RightDelim = o.leftDelim, o.rightDelim
		if len(o.checks) == 1 {
			t.Check = o.checks[0]
		}
		out = append(out, t)
	}
	return out, nil
}

// connect adds the client and what the commands are to know of it.
func (o *options) connect(cfg tmpl.Config, environ []string) (tmpl.Config, error) {
	conn, err := o.conn.Config("muster-tmpl/" + cli.Version())
	if err != nil {
		return cfg, &command.UsageError{Err: err}
	}
	c, err := client.New(conn)
	if err != nil {
		return cfg, cli.Exit(cli.ExitConfig, err)
	}
	cfg.Client = c
	attempts, backoff, most := o.conn.Retry()
	if o.retry > 0 {
		backoff, most = o.retry, o.retry
	}
	cfg.Retry = watch.Retry{Attempts: attempts, Backoff: backoff, MaxBackoff: most}

	extra := connflags.Environ(conn)
	if cfg.Env, err = (cli.Env{}).Build(environ, extra); err != nil {
		return cfg, &command.UsageError{Err: err}
	}
	cfg.Exec = tmpl.Exec{Command: o.exec, KillTimeout: o.execKillTimeout, Splay: o.execSplay}
	if cfg.Exec.Env, err = o.execEnv.Build(environ, extra); err != nil {
		return cfg, &command.UsageError{Err: err}
	}
	if cfg.Exec.ReloadSignal, err = cli.ParseSignal(o.execReload); err != nil {
		return cfg, wrong("exec-reload-signal", o.execReload, err)
	}
	if cfg.Exec.KillSignal, err = cli.ParseSignal(o.execKill); err != nil {
		return cfg, wrong("exec-kill-signal", o.execKill, err)
	}
	return cfg, nil
}

// signals are those that end tmpl and make it read the templates again.
func (o *options) signals() (kill, reload syscall.Signal, err error) {
	if kill, err = cli.ParseSignal(o.killSignal); err != nil {
		return 0, 0, wrong("kill-signal", o.killSignal, err)
	}
	if kill == 0 {
		kill = syscall.SIGINT
	}
	if reload, err = cli.ParseSignal(o.reloadSignal); err != nil {
		return 0, 0, wrong("reload-signal", o.reloadSignal, err)
	}
	if reload != 0 && (reload == kill || reload == syscall.SIGTERM || reload == syscall.SIGINT) {
		return 0, 0, command.Usagef("-reload-signal %s ends tmpl", o.reloadSignal)
	}
	return kill, reload, nil
}

func wrong(flag, value string, err error) error {
	return command.Usagef("invalid value %q for flag -%s: %w", value, flag, err)
}
