package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/tmpl/config"
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

const examples = `  # Keep haproxy.cfg true; run ./reload after the first rendering and changes.
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

// options are the flags that are not also keys of a configuration file.
type options struct {
	*toolopts.Options[config.Config, *config.Config]
	stdout, stderr *os.File

	templates []string
	checks    []string

	minItems  int
	maxShrink int

	dry     bool
	timeout time.Duration

	exec, supervise string

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
	o.addTemplates(cmd.Flags())
	o.Add(
		option.Option{Flag: "exec", To: &o.exec, Help: "`command` to run after the first complete rendering and after each that changed a file"},
		option.Option{Flag: "supervise", To: &o.supervise, Help: "`command` to start after the first complete rendering; tmpl ends with it, and it with tmpl"},
		option.Option{Flag: "once", Help: "render once, run the commands, exit"},
		option.Option{Flag: "timeout", To: &o.timeout, Help: "with -once: give up after this `time` (exit code 14)"},
		option.Option{Flag: "dry", To: &o.dry, Help: "write and run nothing; print what would be written"},
		option.Option{Flag: "parse-only", Group: "Templates", Help: "only read and parse the templates"})
	o.Add(option.In("Changes",
		option.Option{Flag: "min-items", To: &o.minItems, Help: "replace no file by one that shows fewer than so many `things` (instances, keys, nodes)"},
		option.Option{Flag: "max-shrink", To: &o.maxShrink, Help: "replace no file by one that shows more than so many `percent` fewer things; SIGHUP agrees to it"},
		option.Option{Rare: true, Flag: "template-error-fatal", Group: "Templates", Default: false, Help: "true: a template that fails ends tmpl; false: none does (else: only what cannot get better)"})...)
	o.Add(toolopts.Pace("files are written")...)
	o.Add(option.Option{Flag: "min-interval", Group: "Changes", Help: "least `time` between two replacements of one file"})
	o.Add(toolopts.Cache("renders")...)
	o.Add(o.Exec("`signal` for a command that still runs at a change (else it is stopped and started)")...)
	o.Add(toolopts.Apply("follow a change")...)
	o.Add(o.Connection()...)
	o.Add(o.Process("CONSUL_TEMPLATE_LOG_LEVEL CONSUL_TEMPLATE_LOG CT_LOG")...)
	cmd.AddCommand(offlineCommands(o.stdout, o.stderr)...)
	return cmd
}

// addTemplates begins the table with the options that say what to render.
func (o *options) addTemplates(fs *pflag.FlagSet) {
	o.Options = toolopts.New[config.Config](fs, "tmpl")
	o.Add(
		option.Option{Flag: "template", To: &o.templates, Help: "`source:destination[:command]` to render, repeatable; write \\: for a colon in a path"},
		o.Config(),
		option.Option{Flag: "check", To: &o.checks, Help: "`command` that must accept each new file before it replaces the old one; {path} is the new file"},
		option.Option{Flag: "left-delimiter", Also: "default-left-delimiter", Key: "default_delimiters.left", Default: "{{", Group: "Templates", Help: "left `delimiter` of templates", Check: delimiter},
		option.Option{Flag: "right-delimiter", Also: "default-right-delimiter", Key: "default_delimiters.right", Default: "}}", Group: "Templates", Help: "right `delimiter` of templates", Check: delimiter})
}

func delimiter(s string) error {
	if s == "" {
		return errors.New("a delimiter is empty")
	}
	return nil
}
