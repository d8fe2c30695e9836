// Package watchcmd is the watch command: the tool of that name, and the agent's
// subcommand.
package watchcmd

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/pkg/handlers"
)

const long = `Watch follows a view of the data (a key, keys, services, nodes, the instances of a
service, checks, events) and runs a handler when it changes. The handler gets the
new state as JSON on its standard input, in the shapes of Consul's watch, and its
index as CONSUL_INDEX. It works with muster and with Consul.

A handler runs when the view differs from what was delivered last, which is
remembered on disk: a restart runs nothing. A handler that fails is run again until
it has ended with 0. It runs below a guard and ends with watch, even by kill -9.

Without a handler the first result is printed, and that is all; -o jsonl prints
every result, one line each.

A handler of several words runs directly, one string with blanks by sh -c. A bare
name that PATH lacks but the working directory has runs from there.

Exit codes: 0 done, or ended by SIGTERM or SIGINT; 1 wrong flags, or no answer where
nothing is tried again; 14 gave up (-timeout, -retry-attempts); with -once that of
the handler, 128 + N when signal N ended it or watch.`

const examples = `  # Run ./handler.sh whenever a check changes.
  %[1]s -type checks handler.sh

  # Flush a cache when somebody fires an event of that name.
  %[1]s -type event -name flush 'echo flush_all | nc -q1 localhost 11211'

  # Follow a log of releases; none is missed while this machine is away.
  %[1]s -type event -name release -durable -overlap queue ./deploy.sh

  # What changed below a prefix, a line for each key, with the old and new value.
  %[1]s -type keyprefix -prefix app/ -changes -o jsonl

  # Post the passing instances of a service, when nothing has changed for 2 s.
  %[1]s -type service -service web -passingonly=true -settle 2s -http-handler http://127.0.0.1:8000/web

  # From cron: run the handler if the key changed since the last time, give up after 10 s.
  %[1]s -type key -key app/config -once -timeout 10s ./apply.sh

  # What is there now; all watches of a file.
  %[1]s -type nodes
  %[1]s -config /etc/muster/watches.hcl`

// options are the flags.
type options struct {
	stdout, stderr *os.File
	flags          *pflag.FlagSet
	conn           *connflags.Flags
	args           []string

	spec        handlers.Spec
	passing     string
	shell       string
	output      string
	once        bool
	timeout     time.Duration
	configs     []string
	stateDir    string
	retries     int
	http        handlers.HTTP
	httpHeaders []string

	pidFile, logLevel string
	statusAddr        string
	logJSON           bool
}

// New makes the command; name is how it is called.
func New(name string, stdout, stderr *os.File) *cobra.Command {
	o := &options{stdout: stdout, stderr: stderr}
	cmd := &cobra.Command{
		Use:     "watch -type TYPE [flags] [HANDLER [ARGUMENT...]]",
		Short:   "run a handler when a view of the data changes",
		Long:    long,
		Example: fmt.Sprintf(examples, name),

		DisableFlagsInUseLine: true,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	o.flags = fs
	o.addTarget(fs)
	o.addHandler(fs)
	o.addDelivery(fs)
	o.conn = connflags.Add(fs)
	fs.StringVar(&o.spec.Datacenter, "datacenter", "", "`datacenter` to ask instead of the agent's own")
	fs.BoolVar(&o.spec.Stale, "stale", false, "let any server answer, leader or not")
	fs.IntVar(&o.retries, "retry-attempts", 0, "`failures` in a row to get an answer that end watch (exit code 14); 0: never")
	fs.StringVar(&o.pidFile, "pid-file", "", "`file` to write the process id to")
	fs.StringVar(&o.statusAddr, "status-addr", "", "`address` (host:port or unix:///path) to serve /status and /metrics on")
	fs.StringVar(&o.logLevel, "log-level", "info", "`level`: trace, debug, info, warn or error")
	fs.BoolVar(&o.logJSON, "log-json", false, "log as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.args = args
		return o.start(cmd.Context())
	}
	return cmd
}

// addTarget defines what is watched.
func (o *options) addTarget(fs *pflag.FlagSet) {
	s := &o.spec
	fs.StringVar(&s.Type, "type", "", "what to watch: key, keyprefix, services, nodes, service, checks or event")
	fs.StringVar(&s.Key, "key", "", "`key` to watch (type key)")
	fs.StringVar(&s.Prefix, "prefix", "", "`prefix` of keys to watch (type keyprefix)")
	fs.StringVar(&s.Service, "service", "", "`service` to watch (types service and checks)")
	fs.StringArrayVar(&s.Tags, "tag", nil, "only instances with this `tag`; repeatable (type service)")
	fs.StringVar(&o.passing, "passingonly", "", "`true`: only instances all of whose checks pass (type service)")
	fs.StringVar(&s.State, "state", "", "only checks in this `state` (type checks; default any)")
	fs.StringVar(&s.Name, "name", "", "only events of this `name` (type event)")
	fs.BoolVar(&s.Durable, "durable", false, "events that the servers keep: each is handed over at least once, in order, and acknowledged (type event)")
	fs.StringVar(&s.Filter, "filter", "", "only what this `expression` selects (types services, nodes, service and checks)")
	fs.StringArrayVar(&o.configs, "config", nil, "`file` or directory with watches (HCL, JSON, YAML, TOML), repeatable; SIGHUP reads it again")
}

// addHandler defines who is told.
func (o *options) addHandler(fs *pflag.FlagSet) {
	s := &o.spec
	fs.StringVar(&o.shell, "shell", "", "`true` or false: run the handler by sh -c, or never (else: one string with blanks does)")
	fs.Lookup("shell").NoOptDefVal = "true"
	fs.StringVarP(&o.output, "o", "o", "json", "what to print without a handler: the first result (`json`), or each, on a line (jsonl)")
	fs.StringVar(&o.http.Path, "http-handler", "", "`URL` to send changes to")
	fs.StringVar(&o.http.Method, "http-method", "POST", "`method` of -http-handler")
	fs.StringArrayVar(&o.httpHeaders, "http-header", nil, "`Name: value` for -http-handler; repeatable")
	fs.DurationVar(&o.http.Timeout, "http-timeout", 10*time.Second, "`time` that -http-handler has to answer")
	fs.BoolVar(&o.http.TLSSkipVerify, "http-tls-skip-verify", false, "do not verify the certificate of -http-handler")
	fs.BoolVar(&s.Changes, "changes", false, "hand over what was added, modified and deleted, a JSON line each, with old and new")
	fs.BoolVar(&s.KeepValues, "keep-values", false, "with -changes: keep the values on disk, so that old is known after a restart too")
}

// addDelivery defines when and how often.
func (o *options) addDelivery(fs *pflag.FlagSet) {
	s := &o.spec
	fs.BoolVar(&o.once, "once", false, "deliver what is due now, then exit; a failed handler is not run again")
	fs.DurationVar(&o.timeout, "timeout", 0, "with -once, or without a handler: give up after this `time` (exit code 14)")
	fs.StringVar((*string)(&s.Initial), "initial", "", "deliver what is there at the start: never, if-changed (unless it was delivered before) or always (default if-changed, -o jsonl: always)")
	fs.StringVar((*string)(&s.Overlap), "overlap", "coalesce", "changes while the handler runs: queue (each gets a run), coalesce (one run for the newest) or kill (the same, at once)")
	fs.DurationVar(&s.Settle, "settle", 0, "deliver when nothing has changed for this `time`, at the latest after four times that")
	fs.DurationVar(&s.Timeout, "handler-timeout", 0, "`time` after which a handler that runs is stopped, and has failed; 0: none")
	fs.DurationVar(&s.KillTimeout, "kill-timeout", 5*time.Second, "`time` from SIGTERM to SIGKILL for a handler that is stopped")
	fs.IntVar(&s.Attempts, "attempts", 0, "`runs` that may fail before a change is given up; 0: it never is")
	fs.StringVar(&s.DeadLetters, "dead-letters", "", "`file` to append changes to that were given up")
	fs.StringVar(&o.stateDir, "state-dir", "", "`directory` to remember deliveries in (default $XDG_STATE_HOME/muster/watch, and nowhere if that cannot be written)")
}
