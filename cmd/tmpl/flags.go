package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/toolflags"
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
	*toolflags.Flags
	stdout, stderr *os.File

	templates  []string
	checks     []string
	leftDelim  string
	rightDelim string

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
	fs := cmd.Flags()
	o.Flags = toolflags.New(fs, "tmpl")
	o.addTemplates(fs)
	o.AddPace("files are written")
	fs.Duration("min-interval", 0, "least `time` between two replacements of one file")
	fs.IntVar(&o.minItems, "min-items", 0, "replace no file by one that shows fewer than so many `things` (instances, keys, nodes)")
	fs.IntVar(&o.maxShrink, "max-shrink", 0, "replace no file by one that shows more than so many `percent` fewer things; SIGHUP agrees to it")
	o.AddCache("renders")
	fs.Bool("once", false, "render once, run the commands, exit")
	fs.DurationVar(&o.timeout, "timeout", 0, "with -once: give up after this `time` (exit code 14)")
	fs.BoolVar(&o.dry, "dry", false, "print what would be written; write and run nothing")
	fs.Bool("parse-only", false, "only read and parse the templates")
	fs.Bool("template-error-fatal", false, "true: a template that fails ends tmpl; false: none does (else: only what cannot get better)")
	o.AddShell()
	fs.StringVar(&o.exec, "exec", "", "`command` to run after the first complete rendering and after each that changed a file")
	fs.StringVar(&o.supervise, "supervise", "", "`command` to start after the first complete rendering; tmpl ends with it, and it with tmpl")
	o.AddExec("`signal` for a command that still runs at a change (else it is stopped and started)")
	o.AddApply("follow a change")
	o.AddConnection()
	o.AddProcess()
	cmd.AddCommand(offlineCommands(o.stdout, o.stderr)...)
	return cmd
}

// addTemplates defines the flags that say what to render.
func (o *options) addTemplates(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.templates, "template", nil, "`source:destination[:command]` to render, repeatable; write \\: for a colon in a path")
	o.AddConfig()
	fs.StringArrayVar(&o.checks, "check", nil, "`command` that must accept each new file before it replaces the old one; {path} is the new file")
	fs.StringVar(&o.leftDelim, "left-delimiter", "{{", "left `delimiter` of templates")
	fs.StringVar(&o.rightDelim, "right-delimiter", "}}", "right `delimiter` of templates")
	fs.StringVar(&o.leftDelim, "default-left-delimiter", "{{", "same as -left-delimiter")
	fs.StringVar(&o.rightDelim, "default-right-delimiter", "}}", "same as -right-delimiter")
}
