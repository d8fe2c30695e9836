package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
)

const long = `Tmpl renders templates from a catalog of services, nodes and keys, keeps the
files true while the data changes, and runs a command after it. Templates and
configuration files are those of consul-template. It works with muster and with
Consul.

A file is replaced as a whole or not at all, only when its content changes, and
after -check has accepted it. While no agent can be reached the last good file
stays and tmpl keeps trying.

-exec is a command that runs after a change and may end. -supervise, or an exec
block of a configuration file, is a child that stays: tmpl ends with its code.

SIGHUP reads configuration and templates again; what did not change is left
alone. Other signals go to the -exec command (HUP, QUIT, USR1, USR2, WINCH) or to
the supervised child (all that tmpl does not need itself, TERM too).

Exit codes: 0 done, or ended by SIGTERM; 12 ended by SIGINT, or by any signal
before -once was done; 13 wrong flags; 14 gave up, or a template is wrong; 15
wrong configuration; with -once that of the first command that failed; with a
supervised child that of the child, 128 + N when signal N ended it.`

const examples = `  # Keep haproxy.cfg true; run ./reload after the first rendering and each change.
  tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload

  # Never put a file in place that HAProxy would refuse.
  tmpl -template haproxy.ctmpl:/etc/haproxy/haproxy.cfg -check 'haproxy -c -f {path}' \
       -exec 'systemctl reload haproxy'

  # The configuration of a consul-template, or a directory of them.
  tmpl -config /etc/consul-template.d

  # A program that lives and dies with tmpl, and reloads on HUP.
  tmpl -template app.ctmpl:app.conf -supervise './server -c app.conf' -exec-reload-signal HUP

  # Two files, each with a command of its own that runs when that file changed.
  tmpl -template 'a.ctmpl:a.conf:pkill -HUP a' -template 'b.ctmpl:b.conf:pkill -HUP b'

  # Render once and exit; look only; what would change now; what is it asking for?
  tmpl -template a.ctmpl:a.conf -once -timeout 30s
  tmpl -template a.ctmpl:a.conf -dry -once
  tmpl diff -template a.ctmpl:a.conf
  tmpl explain -template a.ctmpl`

// options are the flags.
type options struct {
	stdout, stderr *os.File
	flags          *pflag.FlagSet

	conn       *connflags.Flags
	configs    []string
	templates  []string
	checks     []string
	leftDelim  string
	rightDelim string
	wait       string
	retry      time.Duration
	shell      string

	minItems  int
	maxShrink int

	dry, version bool
	timeout      time.Duration

	exec, supervise          string
	execReload, execKill     string
	killSignal, reloadSignal string

	logLevel   string
	logJSON    bool
	statusAddr string
	pidFile    string

	offline offlineOptions
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
	o.flags = fs
	o.addTemplates(fs)
	fs.StringVar(&o.wait, "wait", "", "`min[:max]` time without a change before files are written, and the longest time to wait for that")
	fs.Duration("min-interval", 0, "least `time` between two replacements of one file")
	fs.Duration("jitter", 0, "a node follows changes by up to this `time` later, each node always as long")
	fs.IntVar(&o.minItems, "min-items", 0, "replace no file by one that shows fewer than so many `things` (instances, keys, nodes)")
	fs.IntVar(&o.maxShrink, "max-shrink", 0, "replace no file by one that shows more than so many `percent` fewer things; SIGHUP agrees to it")
	fs.String("cache-file", "", "`file` to keep the last good data in, so that a start without an agent renders")
	fs.Bool("once", false, "render once, run the commands, exit")
	fs.DurationVar(&o.timeout, "timeout", 0, "with -once: give up after this `time` (exit code 14)")
	fs.BoolVar(&o.dry, "dry", false, "print what would be written; write and run nothing")
	fs.Bool("parse-only", false, "only read and parse the templates")
	fs.Bool("template-error-fatal", false, "true: a template that fails ends tmpl; false: none does (else: only what cannot get better)")
	fs.StringVar(&o.shell, "shell", "", "`true` or false: run commands by sh -c, or never (else: one string with blanks does)")
	o.addExec(fs)
	o.addConnection(fs)

	fs.StringVar(&o.killSignal, "kill-signal", "SIGINT", "`signal` that ends tmpl with exit code 12")
	fs.StringVar(&o.reloadSignal, "reload-signal", "SIGHUP", "`signal` that makes tmpl read configuration and templates again")
	fs.StringVar(&o.pidFile, "pid-file", "", "`file` to write the process id to")
	fs.StringVar(&o.statusAddr, "status-addr", "", "`address` (host:port or unix:///path) to serve /status and /metrics on")
	fs.StringVar(&o.logLevel, "log-level", "info", "`level`: trace, debug, info, warn or error")
	fs.BoolVar(&o.logJSON, "log-json", false, "log as JSON")
	fs.BoolVarP(&o.version, "version", "v", false, "print the version")
	addWithoutEffect(fs)
	cmd.AddCommand(offlineCommands(o.stdout, o.stderr)...)
	return cmd
}

// addTemplates defines the flags that say what to render.
func (o *options) addTemplates(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.templates, "template", nil, "`source:destination[:command]` to render, repeatable; write \\: for a colon in a path")
	fs.StringArrayVar(&o.configs, "config", nil, "configuration `file` or directory (HCL, JSON, YAML, TOML), repeatable; a later one wins, flags win over all")
	fs.StringArrayVar(&o.checks, "check", nil, "`command` that must accept each new file before it replaces the old one; {path} is the new file")
	fs.StringVar(&o.leftDelim, "left-delimiter", "{{", "left `delimiter` of templates")
	fs.StringVar(&o.rightDelim, "right-delimiter", "}}", "right `delimiter` of templates")
	fs.StringVar(&o.leftDelim, "default-left-delimiter", "{{", "same as -left-delimiter")
	fs.StringVar(&o.rightDelim, "default-right-delimiter", "}}", "same as -right-delimiter")
}

func (o *options) addExec(fs *pflag.FlagSet) {
	fs.StringVar(&o.exec, "exec", "", "`command` to run after the first complete rendering and after each that changed a file")
	fs.StringVar(&o.supervise, "supervise", "", "`command` to start after the first complete rendering; tmpl ends with it, and it with tmpl")
	fs.StringVar(&o.execReload, "exec-reload-signal", "", "`signal` for a command that still runs at a change (else it is stopped and started)")
	fs.StringVar(&o.execKill, "exec-kill-signal", "SIGINT", "`signal` that stops the command")
	fs.Duration("exec-kill-timeout", 30*time.Second, "`time` after which a command that was stopped is killed")
	fs.Duration("exec-splay", 0, "random `time`, at most this, before a running command is signalled")
	fs.Bool("exec-env-pristine", false, "give the command none of our environment")
	fs.StringArray("exec-env-custom", nil, "`NAME=value` for the command's environment, repeatable")
	fs.StringArray("exec-env-allowlist", nil, "`pattern` of names to pass on, repeatable")
	fs.StringArray("exec-env-denylist", nil, "`pattern` of names not to pass on, repeatable")
}

func (o *options) addConnection(fs *pflag.FlagSet) {
	o.conn = connflags.Add(fs)
	o.conn.AddDatacenter()
	o.conn.AddConsul()
	fs.DurationVar(&o.retry, "retry", 0, "fixed `delay` before a retry, instead of one that doubles")
	fs.Duration("max-stale", 0, "allow answers from any server that are at most so `old`")
}

// withoutEffect are flags of consul-template's that mean nothing here; using one
// gives a warning.
func withoutEffect() (texts, bools []string) {
	return []string{
			"log-file", "log-rotate-bytes", "log-rotate-duration", "log-rotate-max-files",
			"syslog-facility", "syslog-name",
			"vault-addr", "vault-token", "vault-agent-token-file", "vault-namespace", "vault-client-user-agent",
			"vault-default-lease-duration", "vault-lease-renewal-threshold",
			"vault-retry-attempts", "vault-retry-backoff", "vault-retry-max-backoff",
			"vault-ssl-ca-cert", "vault-ssl-ca-path", "vault-ssl-cert", "vault-ssl-key", "vault-ssl-server-name",
			"vault-transport-dial-keep-alive", "vault-transport-dial-timeout",
			"vault-transport-max-idle-conns-per-host", "vault-transport-tls-handshake-timeout",
		}, []string{
			"dedup", "syslog", "vault-renew-token", "vault-unwrap-token", "vault-retry", "vault-ssl", "vault-ssl-verify",
			"vault-transport-disable-keep-alives",
		}
}

func addWithoutEffect(fs *pflag.FlagSet) {
	texts, bools := withoutEffect()
	for _, name := range texts {
		fs.String(name, "", "accepted, without effect")
		_ = fs.MarkHidden(name)
	}
	for _, name := range bools {
		fs.Bool(name, false, "accepted, without effect")
		_ = fs.MarkHidden(name)
	}
}
