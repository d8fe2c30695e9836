// Package toolflags holds the flags that tmpl and envexec share, as consul-template
// and envconsul share theirs, and what they and the configuration files amount to
// together.
package toolflags

import (
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/watch"
)

// Flags are the values of those that are not also keys of a configuration file.
type Flags struct {
	Configs    []string
	StatusAddr string
	LogJSON    bool

	tool    string
	set     *pflag.FlagSet
	conn    *connflags.Flags
	retry   time.Duration
	useless []string // flags without effect

	wait, logLevel           string
	execReload, execKill     string
	killSignal, reloadSignal string
	shell                    string
}

// New is for the flags of the tool of that name; the methods that follow define them,
// in the order in which a help text has them.
func New(fs *pflag.FlagSet, tool string) *Flags {
	fs.SortFlags = false
	return &Flags{tool: tool, set: fs}
}

// AddConfig defines -config.
func (f *Flags) AddConfig() {
	f.set.StringArrayVar(&f.Configs, "config", nil, "configuration `file` or directory (HCL, JSON, YAML, TOML), repeatable; a later one wins, flags win over all")
}

// AddPace defines what calms the tool down; what is what is done to follow a change.
func (f *Flags) AddPace(what string) {
	f.set.StringVar(&f.wait, "wait", "", "`min[:max]` time without a change before "+what+", and the longest time to wait for that")
	f.set.Duration("jitter", 0, "a node follows changes by up to this `time` later, each node always as long")
}

// AddCache defines -cache-file and its kin; a start without an agent is good for what.
func (f *Flags) AddCache(what string) {
	f.set.String("cache-file", "", "`file` to keep the last good data in, so that a start without an agent "+what)
	f.set.Duration("cache-max-age", watch.DefaultMaxAge, "`age` above which these data are not used; 0: none is")
}

// AddExec defines what steers a command, and its environment.
func (f *Flags) AddExec(reloadUsage string) {
	fs := f.set
	fs.StringVar(&f.execReload, "exec-reload-signal", "", reloadUsage)
	fs.StringVar(&f.execKill, "exec-kill-signal", "SIGINT", "`signal` that stops the command")
	fs.Duration("exec-kill-timeout", 30*time.Second, "`time` after which a command that was stopped is killed")
	fs.Duration("exec-splay", 0, "random `time`, at most this, before a running command is signalled")
	fs.Bool("exec-env-pristine", false, "give the command none of our environment")
	fs.StringArray("exec-env-custom", nil, "`NAME=value` for the command's environment, repeatable")
	fs.StringArray("exec-env-allowlist", nil, "`pattern` of names to pass on, repeatable")
	fs.StringArray("exec-env-denylist", nil, "`pattern` of names not to pass on, repeatable")
}

// AddShell defines -shell.
func (f *Flags) AddShell() {
	f.set.StringVar(&f.shell, "shell", "", "`true` or false: run commands by sh -c, or never (else: one string with blanks does)")
}

// AddConnection defines the flags that say which agent is asked, and how.
func (f *Flags) AddConnection() {
	f.conn = connflags.Add(f.set)
	f.conn.AddDatacenter()
	f.conn.AddConsul()
	f.set.DurationVar(&f.retry, "retry", 0, "fixed `delay` before a retry, instead of one that doubles")
	f.set.Duration("max-stale", 0, "allow answers from any server that are at most so `old`")
}

// AddProcess defines the flags of the tool as a process, and hides those of the
// reference's that mean nothing here: using one gives a warning.
func (f *Flags) AddProcess() {
	fs := f.set
	fs.StringVar(&f.killSignal, "kill-signal", "SIGINT", "`signal` that ends "+f.tool+" with exit code 12")
	fs.StringVar(&f.reloadSignal, "reload-signal", "SIGHUP", "`signal` that makes "+f.tool+" read its configuration again")
	fs.String("pid-file", "", "`file` to write the process id to")
	fs.StringVar(&f.StatusAddr, "status-addr", "", "`address` (host:port or unix:///path) to serve /status and /metrics on")
	fs.StringVar(&f.logLevel, "log-level", "info", "`level`: trace, debug, info, warn or error")
	fs.BoolVar(&f.LogJSON, "log-json", false, "log as JSON")
	for _, name := range []string{
		"log-file", "log-rotate-bytes", "log-rotate-duration", "log-rotate-max-files",
		"syslog-facility", "syslog-name",
		"vault-addr", "vault-token", "vault-agent-token-file", "vault-namespace", "vault-client-user-agent",
		"vault-default-lease-duration", "vault-lease-renewal-threshold",
		"vault-retry-attempts", "vault-retry-backoff", "vault-retry-max-backoff",
		"vault-ssl-ca-cert", "vault-ssl-ca-path", "vault-ssl-cert", "vault-ssl-key", "vault-ssl-server-name",
		"vault-transport-dial-keep-alive", "vault-transport-dial-timeout",
		"vault-transport-max-idle-conns-per-host", "vault-transport-tls-handshake-timeout",
	} {
		fs.String(name, "", "")
		f.NoEffect(name)
	}
	for _, name := range []string{
		"dedup", "syslog", "vault-renew-token", "vault-unwrap-token", "vault-retry", "vault-ssl", "vault-ssl-verify",
		"vault-transport-disable-keep-alives",
	} {
		fs.Bool(name, false, "")
		f.NoEffect(name)
	}
}

// NoEffect makes a flag one that is accepted, and no more.
func (f *Flags) NoEffect(name string) {
	f.set.Lookup(name).Usage = "accepted, without effect"
	_ = f.set.MarkHidden(name)
	f.useless = append(f.useless, name)
}

// Check finds what is wrong with the values of these flags.
func (f *Flags) Check() error {
	if _, err := logx.ParseLevel(f.logLevel); err != nil {
		return command.WrongValue("log-level", f.logLevel, err)
	}
	if f.wait != "" {
		if _, err := watch.ParseWait(f.wait); err != nil {
			return command.WrongValue("wait", f.wait, err)
		}
	}
	for _, s := range []struct{ flag, value string }{
		{"exec-reload-signal", f.execReload}, {"exec-kill-signal", f.execKill},
		{"kill-signal", f.killSignal}, {"reload-signal", f.reloadSignal},
	} {
		if _, err := cli.ParseSignal(s.value); err != nil {
			return command.WrongValue(s.flag, s.value, err)
		}
	}
	if f.shell != "" && f.shell != "true" && f.shell != "false" {
		return command.WrongValue("shell", f.shell, errors.New("want true or false"))
	}
	return nil
}

// Shell is what -shell says, nil: nothing.
func (f *Flags) Shell() *bool {
	if f.shell == "" {
		return nil
	}
	by := f.shell == "true"
	return &by
}

// Changed are the settings that the command line gives, by their dotted key in a
// configuration file; more are the keys of flags of the tool's own. The warning
// names flags without effect, if any were given.
func (f *Flags) Changed(more map[string]string) (flat map[string]any, warning string) {
	keys := map[string]string{
		"once": "once", "wait": "wait", "max-stale": "max_stale", "jitter": "jitter", "cache-file": "cache_file", "cache-max-age": "cache_max_age",
		"pid-file": "pid_file", "log-level": "log_level", "reload-signal": "reload_signal", "kill-signal": "kill_signal",
		"exec-reload-signal": "exec.reload_signal", "exec-kill-signal": "exec.kill_signal",
		"exec-kill-timeout": "exec.kill_timeout", "exec-splay": "exec.splay",
		"exec-env-pristine": "exec.env.pristine", "exec-env-custom": "exec.env.custom",
		"exec-env-allowlist": "exec.env.allowlist", "exec-env-denylist": "exec.env.denylist",
		"consul-retry": "consul.retry.enabled", "consul-retry-attempts": "consul.retry.attempts",
		"consul-retry-backoff": "consul.retry.backoff", "consul-retry-max-backoff": "consul.retry.max_backoff",
	}
	maps.Copy(keys, applyKeys())
	maps.Copy(keys, more)
	flat = map[string]any{}
	f.set.Visit(func(flag *pflag.Flag) {
		key, ok := keys[flag.Name]
		if !ok {
			return
		}
		flat[key] = flag.Value.String()
		if list, many := flag.Value.(pflag.SliceValue); many {
			flat[key] = list.GetSlice()
		}
	})
	var useless []string
	for _, name := range f.useless {
		if f.set.Changed(name) {
			useless = append(useless, "-"+name)
		}
	}
	if len(useless) > 0 {
		warning = "these flags are accepted but have no effect: " + strings.Join(useless, ", ")
	}
	return flat, warning
}
