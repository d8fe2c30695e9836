package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/toolflags"
)

const long = `Envexec runs a program with keys and services in its environment, and starts it
again with the new ones when they change. It takes the flags and configuration files
of envconsul, and works with muster and with Consul.

A prefix is a folder: -prefix app takes app/host, as "host", and not app2/host. Each
character outside [A-Za-z0-9_] becomes _ (-sanitize=false keeps it). Of several
prefixes the later wins; two keys of one prefix that come to the same name are an error.

What stands behind the program's name is the program's. While no agent can be
reached, or the data make no environment, the child stays as it is.

SIGHUP reads the configuration again. SIGINT stops the child and ends envexec; all other
signals go to the child and what it has started. kill -9 of envexec takes the
child with it.

Exit codes: that of the child, 128 + N when signal N ended it; 0 ended by SIGTERM before
the child had started; 12 ended by SIGINT; 13 wrong flags; 14 gave up, or the child could not
be started; 15 wrong configuration, or no command.`

const examples = `  # Keys below app/ as variables; a change starts ./server again.
  envexec -prefix app/ ./server -listen :8080

  # Two folders, of which the second wins; names in upper case; no change for 5 s first.
  envexec -prefix common -prefix app -upcase -wait 5s ./server

  # A program that reads a file again by itself.
  envexec -prefix app -env-file /run/app.env -on-change signal -exec-reload-signal HUP ./server

  # Into this shell; into a file for systemd; and which key makes which variable?
  eval "$(envexec print -prefix app/)"
  envexec print -o systemd -prefix app/ >/etc/app.env
  envexec print -explain -prefix common -prefix app`

// options are the flags.
type options struct {
	*toolflags.Flags
	stdout, stderr *os.File
	command        []string // what stands behind the flags

	prefixes, services []string
	timeout            time.Duration

	output  string // of print
	explain bool
}

func newCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "envexec [-prefix PREFIX] [flags] COMMAND [ARGUMENT...]",
		Short:   "run a program with keys and services in its environment",
		Long:    long,
		Example: examples,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			return start(cmd.Context(), o)
		},
	}
	fs := cmd.Flags()
	o.Flags = toolflags.New(fs, "envexec")
	o.addSources(fs)
	fs.String("on-change", "restart", "what a change does to the child: `restart`, signal (by -exec-reload-signal) or nothing")
	fs.String("env-file", "", "`file` that holds the variables too, replaced before the child is started or told")
	fs.String("env-file-format", "dotenv", "its `form`: json, shell, dotenv, systemd or null")
	o.AddPace("a change is followed")
	o.AddCache("is possible")
	fs.Bool("once", false, "follow no changes: run the child with what there is now")
	fs.DurationVar(&o.timeout, "timeout", 0, "with -once: give up after this `time` without data (exit code 14)")
	fs.String("exec", "", "`command` to run, instead of what stands behind the flags")
	o.AddShell()
	fs.Bool("pristine", false, "same as -exec-env-pristine")
	o.AddExec("`signal` that tells the child of a change, with -on-change signal (else SIGHUP)")
	o.AddApply("follow a change")
	o.AddConnection()
	o.AddProcess()
	cmd.AddCommand(printCommand(o.stdout, o.stderr))
	return cmd
}

// addSources defines the flags that say what the variables are made of.
func (o *options) addSources(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.prefixes, "prefix", nil, "`folder` of keys, repeatable; a later one wins; FOLDER@DATACENTER asks another")
	fs.StringArray("json", nil, "`key` that holds a JSON object, whose members become variables; repeatable; wins over prefixes")
	fs.StringArrayVar(&o.services, "service-query", nil, "`service` ([tag.]name[@datacenter][~near]) whose id, name, address, tag and port become variables, repeatable; wins over keys")
	o.AddConfig()
	for _, what := range []string{"id", "name", "address", "tag", "port"} {
		fs.String("service-format-"+what, "", "`template` of the variable's name, with {{service}} and {{key}} (else SERVICE_"+what+")")
	}
	fs.Bool("no-prefix", true, "leave the folder's path out of the names; -no-prefix=false puts it before them")
	fs.String("format", "", "`template` of names, with {{key}} and replaceKey \"from\" \"to\"")
	fs.Bool("sanitize", true, "make _ of each character of a name outside [A-Za-z0-9_]")
	fs.Bool("upcase", false, "upper-case names")
	fs.Bool("json-values", false, "a value that is a JSON object becomes a variable for each of its members")
	fs.StringArray("secret", nil, "")
	o.NoEffect("secret")
}
