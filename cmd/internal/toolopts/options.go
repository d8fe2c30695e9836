// Package toolopts holds the options that tmpl and envexec share, as consul-template
// and envconsul share theirs, and makes their client, cache and rollout from them. Files
// win over the environment there.
package toolopts

import (
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/rollout"
	"github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/watch"
)

// Options are the table of all options, and the values of those that are not in
// configuration files. T is the struct of a file.
type Options[T any, P settings.File[T]] struct {
	*option.Table[T]

	Configs    []string
	StatusAddr string
	LogJSON    bool

	tool  string
	retry time.Duration
	shell string
}

// New makes the options of a tool, for its flags.
func New[T any, P settings.File[T]](fs *pflag.FlagSet, tool string) *Options[T, P] {
	o := &Options[T, P]{tool: tool, Table: option.New(fs, *new(T))}
	o.FilesFirst = true
	return o
}

// Config is -config.
func (o *Options[T, P]) Config() option.Option {
	return option.Option{Flag: "config", To: &o.Configs, Help: "configuration `file` or directory (HCL, JSON, YAML, TOML), repeatable; a later one wins, flags win over all"}
}

// Pace are the options that delay changes; what says, for the help, what a change causes.
func Pace(what string) []option.Option {
	return option.In("Changes",
		option.Option{Flag: "wait", Help: "`min[:max]` time without a change before " + what + ", and the longest time to wait for that", Check: func(s string) error {
			_, err := watch.ParseWait(s)
			return err
		}},
		option.Option{Flag: "jitter", Help: "a node follows changes by up to this `time` later, each node always as long"})
}

// Cache are -cache-file and -cache-max-age; what says, for the help, what a start without
// an agent does with the data.
func Cache(what string) []option.Option {
	return option.In("Changes",
		option.Option{Flag: "cache-file", Help: "`file` to keep the last good data in, so that a start without an agent " + what},
		option.Option{Rare: true, Flag: "cache-max-age", Default: watch.DefaultMaxAge, Help: "`age` above which these data are not used; 0: none is"})
}

// Exec are the options of a command and its environment.
func (o *Options[T, P]) Exec(reload string) []option.Option {
	return option.In("Command",
		option.Option{Flag: "shell", To: &o.shell, Help: "`true` or false: run commands by sh -c, or never (else: one string with blanks does)", Check: option.CheckBool},
		option.Option{Flag: "exec-reload-signal", Key: "exec.reload_signal", Help: reload, Check: signal},
		option.Option{Flag: "exec-kill-signal", Key: "exec.kill_signal", Default: "SIGINT", Help: "`signal` that stops the command", Check: signal},
		option.Option{Rare: true, Flag: "exec-kill-timeout", Key: "exec.kill_timeout", Default: 30 * time.Second, Help: "`time` after which a command that was stopped is killed"},
		option.Option{Rare: true, Flag: "exec-splay", Key: "exec.splay", Help: "random `time`, at most this, before a running command is signalled"},
		option.Option{Rare: true, Flag: "exec-env-pristine", Key: "exec.env.pristine", Help: "give the command none of our environment"},
		option.Option{Rare: true, Flag: "exec-env-custom", Key: "exec.env.custom", Help: "`NAME=value` for the command's environment, repeatable"},
		option.Option{Rare: true, Flag: "exec-env-allowlist", Key: "exec.env.allowlist", Help: "`pattern` of names to pass on, repeatable"},
		option.Option{Rare: true, Flag: "exec-env-denylist", Key: "exec.env.denylist", Help: "`pattern` of names not to pass on, repeatable"})
}

// Apply are the options of a rollout; what says, for the help, what the machines do one
// after the other.
func Apply(what string) []option.Option {
	return option.In("Rollout",
		option.Option{Flag: "apply-lock", Key: "apply.lock", Help: "`prefix` of the lock that lets only so many machines at a time " + what},
		option.Option{Flag: "apply-slots", Key: "apply.slots", Default: 1, Help: "how many machines at a `time`; the same on all"},
		option.Option{Rare: true, Flag: "apply-ttl", Key: "apply.ttl", Help: "`time` after which the slot of a machine that is not heard of is free (default 15s)"},
		option.Option{Flag: "apply-drain", Key: "apply.drain", Help: "`what` is in maintenance mode meanwhile: node, or the id of a service of this agent's"},
		option.Option{Rare: true, Flag: "apply-drain-wait", Key: "apply.drain_wait", Help: "`time` between the start of the maintenance mode and the change"},
		option.Option{Flag: "apply-hold", Key: "apply.hold", Help: "`time` for which the checks have to pass before the next machine gets the slot"},
		option.Option{Rare: true, Flag: "apply-service", Key: "apply.services", Help: "`id` of a service whose checks these are, repeatable (else all of this agent's)"},
		option.Option{Rare: true, Flag: "apply-health-timeout", Key: "apply.health_timeout", Default: rollout.DefaultHealthTimeout, Help: "`time` after which a machine that is not healthy has failed"},
		option.Option{Rare: true, Flag: "apply-abort-after-failures", Key: "apply.abort_after_failures", Help: "so many `failures`, on whatever machine, stop the rollout; 0: none does"})
}

// Connection are the options that say which agent is asked, and how.
func (o *Options[T, P]) Connection() []option.Option {
	return append(connect.ConsulOptions(), option.In(connect.Group,
		option.Option{Flag: "retry", To: &o.retry, Help: "fixed `delay` before a retry, instead of one that doubles"},
		option.Option{Flag: "max-stale", Help: "allow answers from any server that are at most so `old`"})...)
}

// Process are the options of the tool as a process, and those of the reference that have
// no effect here: giving one is a warning. env are the variables of the log level.
func (o *Options[T, P]) Process(env string) []option.Option {
	level := connect.LogLevel()
	level.Env = env
	out := option.In("Process",
		option.Option{Flag: "kill-signal", Default: "SIGINT", Help: "`signal` that ends " + o.tool + " with exit code 12", Check: signal},
		option.Option{Flag: "reload-signal", Default: "SIGHUP", Help: "`signal` that makes " + o.tool + " read its configuration again", Check: signal},
		option.Option{Flag: "pid-file", Help: "`file` to write the process id to"},
		option.Option{Flag: "status-addr", To: &o.StatusAddr, Help: "`address` (host:port or unix:///path) to serve /status and /metrics on"},
		level,
		option.Option{Flag: "log-json", To: &o.LogJSON, Help: "log as JSON"})
	return append(append(out, option.Unused("", "log-file", "log-rotate-bytes", "log-rotate-duration", "log-rotate-max-files",
		"syslog-facility", "syslog-name",
		"vault-addr", "vault-token", "vault-agent-token-file", "vault-namespace", "vault-client-user-agent",
		"vault-default-lease-duration", "vault-lease-renewal-threshold",
		"vault-retry-attempts", "vault-retry-backoff", "vault-retry-max-backoff",
		"vault-ssl-ca-cert", "vault-ssl-ca-path", "vault-ssl-cert", "vault-ssl-key", "vault-ssl-server-name",
		"vault-transport-dial-keep-alive", "vault-transport-dial-timeout",
		"vault-transport-max-idle-conns-per-host", "vault-transport-tls-handshake-timeout")...),
		option.Unused(false, "dedup", "syslog", "vault-renew-token", "vault-unwrap-token", "vault-retry", "vault-ssl", "vault-ssl-verify",
			"vault-transport-disable-keep-alives")...)
}

func signal(s string) error {
	_, err := cli.ParseSignal(s)
	return err
}

// Shell is the value of -shell; nil if it is not given.
func (o *Options[T, P]) Shell() *bool {
	if o.shell == "" {
		return nil
	}
	return new(o.shell == "true")
}

// Load resolves the options. files is what settings.Read has returned.
func (o *Options[T, P]) Load(files map[string]any) (*T, option.Origins, []string, error) {
	values, from, err := o.Resolve(files)
	if err != nil {
		return nil, from, nil, err
	}
	if err := P(values).Validate(); err != nil { // files pass it before
		return nil, from, nil, &command.UsageError{Err: err}
	}
	var warnings []string
	if useless := o.GivenWithoutEffect(); len(useless) > 0 {
		warnings = append(warnings, "these flags are accepted but have no effect: "+strings.Join(useless, ", "))
	}
	return values, from, warnings, nil
}
