package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/envexec/config"
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

// options are the flags that are not also keys of a configuration file.
type options struct {
	*toolopts.Options[config.Config, *config.Config]
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
	o.Options = toolopts.New[config.Config](cmd.Flags(), "envexec")
	o.addSources()
	o.Add(
		option.Option{Flag: "on-change", Default: "restart", Help: "what a change does to the child: `restart`, nothing, or signal (by -exec-reload-signal)"},
		option.Option{Flag: "env-file", Key: "env_file.path", Help: "`file` that holds the variables too, replaced before the child is started or told"},
		option.Option{Flag: "env-file-format", Key: "env_file.format", Group: "Command", Default: "dotenv", Help: "its `form`: json, shell, dotenv, systemd or null"},
		option.Option{Flag: "once", Help: "follow no changes: run the child with what there is now"},
		option.Option{Flag: "timeout", To: &o.timeout, Help: "with -once: give up after this `time` without data (exit code 14)"})
	o.Add(toolopts.Pace("a change is followed")...)
	o.Add(toolopts.Cache("is possible")...)
	o.Add(option.In("Command",
		option.Option{Flag: "exec", Key: "exec.command", Help: "`command` to run, instead of what stands behind the flags"},
		option.Option{Flag: "pristine", Help: "same as -exec-env-pristine"})...)
	o.Add(o.Exec("`signal` that tells the child of a change, with -on-change signal (else SIGHUP)")...)
	o.Add(toolopts.Apply("follow a change")...)
	o.Add(o.Connection()...)
	o.Add(o.Process("ENVCONSUL_LOG_LEVEL ENVCONSUL_LOG CT_LOG")...)
	cmd.AddCommand(printCommand(o.stdout, o.stderr))
	return cmd
}

// addSources adds the options that say what the variables are made of.
func (o *options) addSources() {
	o.Add(
		option.Option{Flag: "prefix", To: &o.prefixes, Help: "`folder` of keys, repeatable; a later one wins; FOLDER@DATACENTER asks another"},
		option.Option{Flag: "json", Help: "`key` that holds a JSON object, whose members become variables; repeatable; wins over prefixes"},
		option.Option{Flag: "service-query", To: &o.services, Help: "`service` whose id, name, address, tag and port become variables, repeatable; [tag.]name[@datacenter][~near]; wins over keys"},
		o.Config())
	for _, what := range []string{"id", "name", "address", "tag", "port"} {
		o.Add(option.Option{Rare: true, Flag: "service-format-" + what, Key: "all_services.format_" + what, Group: "Names",
			Help: "`template` of the variable's name, with {{service}} and {{key}} (else SERVICE_" + what + ")"})
	}
	o.Add(option.In("Names",
		option.Option{Flag: "no-prefix", Key: "all_prefixes.no_prefix", Default: true, Help: "leave the folder's path out of the names; -no-prefix=false puts it before them"},
		option.Option{Flag: "format", Key: "all_prefixes.format", Help: "`template` of names, with {{key}} and replaceKey \"from\" \"to\""},
		option.Option{Flag: "sanitize", Default: true, Help: "make _ of each character of a name outside [A-Za-z0-9_]"},
		option.Option{Flag: "upcase", Help: "upper-case names"},
		option.Option{Flag: "json-values", Key: "all_prefixes.json_values", Default: false, Help: "a value that is a JSON object becomes a variable for each of its members"})...)
	o.Add(option.Unused([]string(nil), "secret")...)
}
