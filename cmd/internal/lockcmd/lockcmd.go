// Package lockcmd is the command lock, which is a tool of its own and a
// subcommand of agent.
package lockcmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
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
	cmd := &cobra.Command{
		Use:                   "lock [flags] PREFIX COMMAND [ARG...]",
		Short:                 "run a command while holding a lock or a semaphore slot",
		Long:                  long,
		Example:               fmt.Sprintf(examples, name),
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
	}
	c := &common{tool: name, table: option.New(cmd.PersistentFlags(), file{})}
	connect.AddCommon(c.table.Add, &c.paths)
	c.addHolding(cmd, &options{}, file{N: 1, TTL: lock.DefaultTTL, LockDelay: lock.DefaultDelay},
		option.Option{Flag: "n", Help: "`number` of those who may hold the lock at once"},
		option.Option{Flag: "timeout", Also: "try", Help: "give up after waiting this `time` (exit code 75); 0: never"},
		option.Option{Flag: "once-per", Help: "`what`: VALUE, TIME or VALUE/TIME; run nothing, exit 0, if the command has succeeded for that VALUE, or within that TIME, on whatever machine"},
		option.Option{Flag: "safe", Help: "a lock that no time ends: it stays until released, or broken by \"lock break\""},
		option.Option{Flag: "ttl", Help: "`time` after which the lock of a holder that is not heard of is taken away"},
		option.Option{Flag: "lock-delay", Help: "`time` for which nobody gets a lock that was not released"})
	cmd.AddCommand(c.electCommand(), c.leaderCommand(), c.lsCommand(), c.showCommand(), c.breakCommand(), c.verifyCommand())
	return cmd
}

// file is a configuration file: the options of lock and elect.
type file struct {
	connect.Settings `conf:",squash"`

	N           int           `conf:"n"`
	Name        string        `conf:"name"`
	Timeout     time.Duration `conf:"timeout"`
	Safe        bool          `conf:"safe"`
	TTL         time.Duration `conf:"ttl"`
	LockDelay   time.Duration `conf:"lock_delay"`
	OncePer     string        `conf:"once_per"`
	PassStdin   bool          `conf:"pass_stdin"`
	Shell       *bool         `conf:"shell"`
	KillTimeout time.Duration `conf:"kill_timeout"`
	Verbose     bool          `conf:"verbose"`
	Value       string        `conf:"value"`
}

// options are those of one run.
type options struct {
	file
	elect bool // the prefix is an election's, and after a loss it stands again

	table *option.Table[file]
}

// common is what all commands of lock have: how it is typed, -config and the connection.
type common struct {
	tool  string
	table *option.Table[file]
	paths []string
}

// addHolding makes cmd run a command under a lock. The help lists the options that lock and
// elect share after own.
func (c *common) addHolding(cmd *cobra.Command, o *options, start file, own ...option.Option) {
	start.KillTimeout = 5 * time.Second
	o.table = option.New(cmd.Flags(), start)
	o.table.Add(own...)
	o.table.Add(option.In("Command",
		option.Option{Flag: "name", Help: "`name` of the session (default \"Lock for 'COMMAND' at 'PREFIX'\")"},
		option.Option{Flag: "pass-stdin", Help: "give the command our standard input"},
		option.Option{Flag: "shell", Bare: "true", Help: "`true` or false: run the command by sh -c, or never (else: one string with blanks does)", Check: option.CheckBool},
		option.Option{Flag: "kill-timeout", Help: "`time` that the command has to end after INT or TERM"},
		option.Option{Flag: "verbose", Help: "say what happens"},
		option.NoEffect("child-exit-code", false), // it always passes through
		option.NoEffect("monitor-retry", 3),       // a lock is lost when its time is over, not when reads fail
		option.NoEffect("stale", false))...)
	o.table.Include(c.table)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return o.hold(cmd, args, c.paths) }
}

func (c *common) electCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "elect [flags] NAME -- COMMAND [ARG...]",
		Short: "run a command while being the one leader of that name",
		Long: `Elect waits until no other is the leader of that name, and runs the command as
long as it is. When the lead is lost the command is ended, and elect stands again.
It ends when the command ends by itself, with its exit code. The key is
leader/NAME/.lock.`,
		Example: fmt.Sprintf(`  %[1]s elect scheduler -- ./scheduler -listen :8080
  %[1]s elect -value http://10.0.0.7:8080 scheduler -- ./scheduler
  %[1]s elect -ttl 10s -lock-delay 0s cron -- crond -f`, c.tool),
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
	}
	c.addHolding(cmd, &options{elect: true}, file{TTL: lock.DefaultTTL},
		option.Option{Flag: "value", Help: "`text` to publish while leading; \"lock leader NAME\" prints it (default: the host's name)"},
		option.Option{Flag: "timeout", Help: "give up after waiting this `time` (exit code 75); 0: never"},
		option.Option{Flag: "ttl", Help: "`time` after which a leader that is not heard of is taken for gone"},
		option.Option{Flag: "lock-delay", Help: "`time` for which nobody leads after one that did not resign; the TTL alone covers a leader that is cut off"})
	return cmd
}
