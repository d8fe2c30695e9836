// Package watchcmd is the watch command: the tool of that name, and the agent's
// subcommand.
package watchcmd

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/handlers"
)

const long = `Watch follows some of the data (a key, keys, services, nodes, the instances of a
service, checks, events) and runs a handler when it changes. The handler gets the
new state as JSON on its standard input, in the shapes of Consul's watch, and its
index as CONSUL_INDEX. It works with muster and with Consul.

A handler runs when the data differs from what was delivered last, which is
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
	table          *option.Table[file]
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

	pidFile    string
	statusAddr string
	logJSON    bool
}

// New makes the command; name is how it is called.
func New(name string, stdout, stderr *os.File) *cobra.Command {
	o := &options{stdout: stdout, stderr: stderr}
	cmd := &cobra.Command{
		Use:     "watch -type TYPE [flags] [HANDLER [ARGUMENT...]]",
		Short:   "run a handler when data changes",
		Long:    long,
		Example: fmt.Sprintf(examples, name),

		DisableFlagsInUseLine: true,
	}
	o.table = option.New(cmd.Flags(), file{})
	o.table.Add(o.target()...)
	o.table.Add(o.handler()...)
	o.table.Add(o.delivery()...)
	o.table.Add(o.process()...)
	o.table.Add(connect.Options()...)
	o.table.Add(option.In(connect.Group,
		option.Option{Flag: "datacenter", To: &o.spec.Datacenter, Help: "`datacenter` to ask instead of the agent's own"},
		option.Option{Flag: "stale", To: &o.spec.Stale, Help: "let any server answer, leader or not"},
		option.Option{Flag: "retry-attempts", To: &o.retries, Help: "`failures` in a row to get an answer that end watch (exit code 14); 0: never"})...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.args = args
		return o.start(cmd.Context())
	}
	return cmd
}

// target are the options that say what to watch.
func (o *options) target() []option.Option {
	s := &o.spec
	return []option.Option{
		{Flag: "type", To: &s.Type, Help: "what to watch: key, keyprefix, services, nodes, service, checks or event"},
		{Flag: "key", To: &s.Key, Help: "`key` to watch (type key)"},
		{Flag: "prefix", To: &s.Prefix, Help: "`prefix` of keys to watch (type keyprefix)"},
		{Flag: "service", To: &s.Service, Help: "`service` to watch (types service and checks)"},
		{Flag: "tag", To: &s.Tags, Help: "only instances with this `tag`; repeatable (type service)"},
		{Flag: "passingonly", To: &o.passing, Help: "`true`: only instances all of whose checks pass (type service)"},
		{Flag: "state", To: &s.State, Help: "only checks in this `state` (type checks; default any)"},
		{Flag: "name", To: &s.Name, Help: "only events of this `name` (type event)"},
		{Flag: "durable", To: &s.Durable, Help: "events that the servers keep: each is handed over at least once, in order, and acknowledged (type event)"},
		{Flag: "filter", To: &s.Filter, Help: "only what this `expression` selects (types services, nodes, service and checks)"},
		{Flag: "config", To: &o.configs, Help: "`file` or directory with watches (HCL, JSON, YAML, TOML), repeatable; SIGHUP reads it again"},
	}
}

// handler are the options of the handler.
func (o *options) handler() []option.Option {
	s := &o.spec
	o.output, o.http.Method, o.http.Timeout = "json", "POST", 10*time.Second
	return append(option.Output(&o.output, "json", "jsonl"), option.In("Handler",
		option.Option{Flag: "shell", To: &o.shell, Bare: "true", Help: "`true` or false: run the handler by sh -c, or never (else: one string with blanks does)"},
		option.Option{Flag: "http-handler", To: &o.http.Path, Help: "`URL` to send changes to"},
		option.Option{Flag: "http-method", To: &o.http.Method, Help: "`method` of -http-handler"},
		option.Option{Flag: "http-header", To: &o.httpHeaders, Help: "`Name: value` for -http-handler; repeatable"},
		option.Option{Flag: "http-timeout", To: &o.http.Timeout, Help: "`time` that -http-handler has to answer"},
		option.Option{Flag: "http-tls-skip-verify", To: &o.http.TLSSkipVerify, Help: "do not verify the certificate of -http-handler"},
		option.Option{Flag: "changes", To: &s.Changes, Help: "hand over what was added, modified and deleted, a JSON line each, with old and new"},
		option.Option{Flag: "keep-values", To: &s.KeepValues, Help: "with -changes: keep the values on disk, so that old is known after a restart too"},
	)...)
}

// delivery are the options that say when and how often.
func (o *options) delivery() []option.Option {
	s := &o.spec
	s.Overlap, s.KillTimeout = handlers.OverlapCoalesce, 5*time.Second
	return append([]option.Option{
		{Flag: "once", To: &o.once, Help: "deliver what is due now, then exit; a failed handler is not run again"},
		{Flag: "timeout", To: &o.timeout, Help: "with -once, or without a handler: give up after this `time` (exit code 14)"},
	}, option.In("Delivery",
		option.Option{Flag: "initial", To: (*string)(&s.Initial), Help: "deliver what is there at the start: never, if-changed (unless it was delivered before) or always (default if-changed, -o jsonl: always)"},
		option.Option{Flag: "overlap", To: (*string)(&s.Overlap), Help: "changes while the handler runs: queue (each gets a run), coalesce (one run for the newest) or kill (the same, at once)"},
		option.Option{Flag: "settle", To: &s.Settle, Help: "deliver when nothing has changed for this `time`, at the latest after four times that"},
		option.Option{Flag: "handler-timeout", To: &s.Timeout, Help: "`time` after which a handler that runs is stopped, and has failed; 0: none"},
		option.Option{Flag: "kill-timeout", To: &s.KillTimeout, Help: "`time` from SIGTERM to SIGKILL for a handler that is stopped"},
		option.Option{Flag: "attempts", To: &s.Attempts, Help: "`runs` that may fail before a change is given up; 0: it never is"},
		option.Option{Flag: "dead-letters", To: &s.DeadLetters, Help: "`file` to append changes to that were given up"},
		option.Option{Flag: "state-dir", To: &o.stateDir, Help: "`directory` to remember deliveries in (default $XDG_STATE_HOME/muster/watch, and nowhere if that cannot be written)"},
	)...)
}

// process are the options of watch as a process.
func (o *options) process() []option.Option {
	return option.In("Process",
		option.Option{Flag: "pid-file", To: &o.pidFile, Help: "`file` to write the process id to"},
		option.Option{Flag: "status-addr", To: &o.statusAddr, Help: "`address` (host:port or unix:///path) to serve /status and /metrics on"},
		connect.LogLevel(),
		option.Option{Flag: "log-json", To: &o.logJSON, Help: "log as JSON"})
}
