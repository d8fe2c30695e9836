// Package lockcmd is the command lock, which is a tool of its own and a
// subcommand of agent.
package lockcmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/flagfile"
	"github.com/muster-dev/muster/pkg/lock"
)

const long = `Lock waits until it holds the lock of a prefix in the key/value store, runs a
command, and releases the lock. With -n N up to N may hold it at once. It shares
its locks with "consul lock": both exclude each other, on muster and on Consul.

The command's own exit code passes through. It is killed with all that it
started when lock dies, and before the lock can pass to another when lock cannot
renew it. It finds LOCK_KEY, LOCK_TOKEN (a number that grows with each holder),
LOCK_SESSION and LOCK_DEADLINE in its environment.

Exit codes: that of the command, 128 + N when signal N ended it; 75 the lock was
not acquired; 76 it was lost while the command ran; 1 any other error.`

const examples = `  # Only one machine at a time migrates the database.
  %[1]s deploy/ ./migrate.sh

  # At most three at a time; give up after a minute with exit code 75.
  %[1]s -n 3 -timeout 1m svc/web/restart systemctl restart web

  # From cron on every machine, but once a day for all of them.
  %[1]s -once-per 24h jobs/report ./report

  # One of many machines runs it; another takes over when it fails.
  %[1]s elect scheduler -- ./scheduler -listen :8080
  %[1]s leader scheduler

  # Who holds it? Is it still mine? Take it away from whoever has it.
  %[1]s show deploy/
  %[1]s verify && ./next-step
  %[1]s break deploy/`

// New makes the command; name is how it is typed: "lock" or "agent lock".
func New(name string) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:                   "lock [flags] PREFIX COMMAND [ARG...]",
		Short:                 "run a command while holding a lock or a semaphore slot",
		Long:                  long,
		Example:               fmt.Sprintf(examples, name),
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.hold(cmd, args)
		},
	}
	o.add(cmd.Flags())
	cmd.AddCommand(electCommand(name), leaderCommand(name), lsCommand(name), showCommand(name), breakCommand(name), verifyCommand(name))
	return cmd
}

// options are the flags of what holds a lock.
type options struct {
	common *flagfile.Flags

	n         int
	name      string
	timeout   time.Duration
	safe      bool
	ttl       time.Duration
	delay     time.Duration
	oncePer   string
	passStdin bool
	shell     string
	killAfter time.Duration
	verbose   bool

	elect bool // the prefix is an election's, and a loss is no end
	value string
}

func (o *options) add(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.IntVar(&o.n, "n", 1, "`number` of those who may hold the lock at once")
	fs.DurationVar(&o.timeout, "timeout", 0, "give up after waiting this `time` (exit code 75); 0: never")
	fs.DurationVar(&o.timeout, "try", 0, "same as -timeout")
	fs.StringVar(&o.oncePer, "once-per", "", "`what`: VALUE, TIME or VALUE/TIME; run nothing, exit 0, if the command has succeeded for that VALUE, or within that TIME, on whatever machine")
	fs.BoolVar(&o.safe, "safe", false, "a lock that no time ends: it stays until released, or broken by \"lock break\"")
	fs.DurationVar(&o.ttl, "ttl", lock.DefaultTTL, "`time` after which the lock of a holder that is not heard of is taken away")
	fs.DurationVar(&o.delay, "lock-delay", lock.DefaultDelay, "`time` for which nobody gets a lock that was not released")
	o.addCommon(fs)
}

// addCommon defines the flags that an election has too.
func (o *options) addCommon(fs *pflag.FlagSet) {
	fs.StringVar(&o.name, "name", "", "`name` of the session (default \"Lock for 'COMMAND' at 'PREFIX'\")")
	fs.BoolVar(&o.passStdin, "pass-stdin", false, "give the command our standard input")
	fs.StringVar(&o.shell, "shell", "", "`true` or false: run the command by sh -c, or never (else: one string with blanks does)")
	fs.Lookup("shell").NoOptDefVal = "true"
	fs.DurationVar(&o.killAfter, "kill-timeout", 5*time.Second, "`time` that the command has to end after INT or TERM")
	fs.BoolVar(&o.verbose, "verbose", false, "say what happens")
	o.common = flagfile.Add(fs, "lock")
	fs.Bool("child-exit-code", false, "accepted: the command's exit code always passes through")
	fs.Int("monitor-retry", 3, "accepted: a lock is lost when its time is over, not when reads fail")
	fs.Bool("stale", false, "accepted, without effect")
	for _, name := range []string{"child-exit-code", "monitor-retry", "stale"} {
		_ = fs.MarkHidden(name)
	}
}

func electCommand(name string) *cobra.Command {
	o := &options{elect: true, n: 1}
	cmd := &cobra.Command{
		Use:   "elect [flags] NAME -- COMMAND [ARG...]",
		Short: "run a command while being the one leader of that name",
		Long: `Elect waits until no other is the leader of that name, and runs the command as
long as it is. When the lead is lost the command is ended, and elect stands again.
It ends when the command ends by itself, with its exit code. The key is
leader/NAME/.lock.`,
		Example: fmt.Sprintf(`  %[1]s elect scheduler -- ./scheduler -listen :8080
  %[1]s elect -value http://10.0.0.7:8080 scheduler -- ./scheduler
  %[1]s elect -ttl 10s -lock-delay 0s cron -- crond -f`, name),
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  func(cmd *cobra.Command, args []string) error { return o.hold(cmd, args) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&o.value, "value", "", "`text` to publish while leading; \"lock leader NAME\" prints it (default: the host's name)")
	fs.DurationVar(&o.timeout, "timeout", 0, "give up after waiting this `time` (exit code 75); 0: never")
	fs.DurationVar(&o.ttl, "ttl", lock.DefaultTTL, "`time` after which a leader that is not heard of is taken for gone")
	fs.DurationVar(&o.delay, "lock-delay", 0, "`time` for which nobody leads after one that did not resign; the TTL alone covers a leader that is cut off")
	o.addCommon(fs)
	return cmd
}

// file is a configuration file: each key gives the flag of its name.
type file struct {
	flagfile.Common `conf:",squash"`

	N           *int           `conf:"n"`
	Name        *string        `conf:"name"`
	Timeout     *time.Duration `conf:"timeout"`
	Safe        *bool          `conf:"safe"`
	TTL         *time.Duration `conf:"ttl"`
	LockDelay   *time.Duration `conf:"lock_delay"`
	OncePer     *string        `conf:"once_per"`
	PassStdin   *bool          `conf:"pass_stdin"`
	Shell       *bool          `conf:"shell"`
	KillTimeout *time.Duration `conf:"kill_timeout"`
	Verbose     *bool          `conf:"verbose"`
	Value       *string        `conf:"value"`
}
