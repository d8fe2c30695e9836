package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/logx"
	shared "github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/config"
	"github.com/muster-dev/muster/pkg/watch"
)

// settings are what flags, files and environment amount to.
type settings struct {
	file         *config.Config
	tool         tmpl.Config
	level        slog.Level
	kill, reload syscall.Signal
	token        string // what the token file holds: a reload reads it again
	warnings     []string
}

// keys say which setting of a configuration file a flag stands for.
func keys() map[string]string {
	return map[string]string{
		"once": "once", "parse-only": "parse_only", "wait": "wait", "max-stale": "max_stale",
		"template-error-fatal": "template_error_fatal",
		"min-interval":         "min_interval", "jitter": "jitter", "cache-file": "cache_file",
		"pid-file": "pid_file", "log-level": "log_level", "reload-signal": "reload_signal", "kill-signal": "kill_signal",
		"left-delimiter": "default_delimiters.left", "default-left-delimiter": "default_delimiters.left",
		"right-delimiter": "default_delimiters.right", "default-right-delimiter": "default_delimiters.right",
		"exec-reload-signal": "exec.reload_signal", "exec-kill-signal": "exec.kill_signal",
		"exec-kill-timeout": "exec.kill_timeout", "exec-splay": "exec.splay",
		"exec-env-pristine": "exec.env.pristine", "exec-env-custom": "exec.env.custom",
		"exec-env-allowlist": "exec.env.allowlist", "exec-env-denylist": "exec.env.denylist",
		"consul-retry": "consul.retry.enabled", "consul-retry-attempts": "consul.retry.attempts",
		"consul-retry-backoff": "consul.retry.backoff", "consul-retry-max-backoff": "consul.retry.max_backoff",
	}
}

// load reads everything; environ is our own environment.
func (o *options) load(environ []string) (*settings, error) {
	templates, err := o.check()
	if err != nil {
		return nil, err
	}
	flat, useless := o.changed()
	if len(templates) > 0 {
		flat["template"] = templates
	}
	src := shared.Sources{Paths: o.configs, Inline: os.Getenv("CT_LOCAL_CONFIG"), Flags: flat}
	s := &settings{}
	if s.file, s.warnings, err = config.Load(src); err != nil {
		return nil, cli.Exit(cli.ExitConfig, err)
	}
	if len(useless) > 0 {
		s.warnings = append(s.warnings, "these flags are accepted but have no effect: "+strings.Join(useless, ", "))
	}
	if err := o.settle(s, environ); err != nil {
		return nil, err
	}
	return s, nil
}

// changed are the settings that the command line gives, by their key.
func (o *options) changed() (flat map[string]any, useless []string) {
	flat = map[string]any{}
	names := keys()
	texts, bools := withoutEffect()
	none := map[string]bool{}
	for _, name := range append(texts, bools...) {
		none[name] = true
	}
	o.flags.Visit(func(f *pflag.Flag) {
		key, ok := names[f.Name]
		switch {
		case none[f.Name]:
			useless = append(useless, "-"+f.Name)
		case !ok:
		default:
			flat[key] = f.Value.String()
			if list, many := f.Value.(pflag.SliceValue); many {
				flat[key] = list.GetSlice()
			}
		}
	})
	return flat, useless
}

// check finds what is wrong with the command line itself and gives its templates,
// as a file would have them.
func (o *options) check() ([]any, error) {
	if _, err := logx.ParseLevel(o.logLevel); err != nil {
		return nil, wrong("log-level", o.logLevel, err)
	}
	if o.wait != "" {
		if _, err := watch.ParseWait(o.wait); err != nil {
			return nil, wrong("wait", o.wait, err)
		}
	}
	for _, s := range []struct{ flag, value string }{
		{"exec-reload-signal", o.execReload}, {"exec-kill-signal", o.execKill},
		{"kill-signal", o.killSignal}, {"reload-signal", o.reloadSignal},
	} {
		if _, err := cli.ParseSignal(s.value); err != nil {
			return nil, wrong(s.flag, s.value, err)
		}
	}
	switch {
	case o.shell != "" && o.shell != "true" && o.shell != "false":
		return nil, wrong("shell", o.shell, errors.New("want true or false"))
	case len(o.checks) > 1:
		return nil, command.Usagef("-check is given twice: one check is for all templates")
	case o.leftDelim == "" || o.rightDelim == "":
		return nil, command.Usagef("a delimiter is empty")
	case o.minItems < 0 || o.maxShrink < 0 || o.maxShrink > 100:
		return nil, command.Usagef("-min-items or -max-shrink (percent) is out of range")
	case o.exec != "" && o.supervise != "":
		return nil, command.Usagef("-exec and -supervise exclude each other")
	}
	var out []any
	at := map[string]string{}
	for _, spec := range o.templates {
		t, err := tmpl.ParseTemplate(spec)
		if err != nil {
			return nil, wrong("template", spec, err)
		}
		if other, twice := at[t.Destination]; twice && t.Destination != "" {
			return nil, wrong("template", spec, fmt.Errorf("template %s has the same destination", other))
		}
		at[t.Destination] = t.Source
		out = append(out, map[string]any{"source": t.Source, "destination": t.Destination, "command": t.Command})
	}
	return out, nil
}

// settle turns what was read into the Tool's configuration.
func (o *options) settle(s *settings, environ []string) error {
	f, err := s.file, error(nil)
	words := f.Exec.Words()
	switch {
	case len(words) > 0 && o.exec != "":
		return cli.Hint(cli.ExitConfig, errors.New("the configuration has an exec block and -exec is given"),
			"-exec runs a command after a change; to keep the block's child, leave -exec away")
	case len(words) > 0 && o.supervise != "":
		return cli.Hint(cli.ExitConfig, errors.New("the configuration has an exec block and -supervise is given"), "both say which child to supervise: keep one")
	case o.supervise != "":
		words = []string{o.supervise}
	case len(f.Templates) == 0 && !f.Once && len(words) == 0:
		return cli.Hint(cli.ExitConfig, errors.New("no template given"), "tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload")
	case o.timeout != 0 && !f.Once:
		return command.Usagef("-timeout goes with -once only")
	}
	if s.level, err = logLevel(f.LogLevel); err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	if err := s.signals(); err != nil {
		return err
	}
	s.tool = tmpl.Config{
		Once: f.Once, Timeout: o.timeout, Dry: o.dry, MaxStale: f.MaxStale, BlockWait: f.BlockWait,
		MinInterval: f.MinInterval, Jitter: f.Jitter, CacheFile: f.CacheFile,
		Wait: f.Wait(), FailOnMissing: f.FailOnMissing, Stdout: o.stdout, Stderr: o.stderr,
	}
	if by, err := strconv.ParseBool(o.shell); err == nil {
		s.tool.Shell = &by
	}
	return o.connect(s, words, environ)
}

// connect adds the client, and the commands with what they are to know of it.
func (o *options) connect(s *settings, supervised, environ []string) error {
	f := s.file
	conn, err := o.conn.Over(f.Consul.Client(connflags.FromEnv()), "muster-tmpl/"+cli.Version())
	if err != nil {
		return &command.UsageError{Err: err}
	}
	c, err := client.New(conn)
	if err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	s.tool.Client = c
	if conn.TokenFile != "" {
		data, err := os.ReadFile(conn.TokenFile)
		if err != nil {
			return cli.Exit(cli.ExitConfig, fmt.Errorf("read token file: %w", err))
		}
		s.token = string(data)
	}
	s.tool.Retry = f.Consul.Retry.Spec()
	if o.retry > 0 {
		s.tool.Retry.Backoff, s.tool.Retry.MaxBackoff = o.retry, o.retry
	}
	extra := connflags.Environ(conn)
	if s.tool.Env, err = (cli.Env{}).Build(environ, extra); err != nil {
		return &command.UsageError{Err: err}
	}
	env, err := f.Exec.Env.Build(environ, extra)
	if err != nil {
		return &command.UsageError{Err: err}
	}
	if s.tool.Templates, err = f.Specs(environ, extra); err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	for i := range s.tool.Templates {
		o.forAll(&s.tool.Templates[i])
	}
	reload, _ := cli.ParseSignal(f.Exec.ReloadSignal) // these two: validated
	kill, _ := cli.ParseSignal(f.Exec.KillSignal)
	s.tool.Exec = tmpl.Exec{Command: o.exec, ReloadSignal: reload, KillSignal: kill, Splay: f.Exec.Splay, Env: env}
	s.tool.SuperviseEnv = env
	s.tool.Supervise = supervise.Spec{
		Command: supervised, ReloadSignal: reload, KillSignal: kill, Splay: f.Exec.Splay, Timeout: f.Exec.Timeout,
	}
	if t := f.Exec.KillTimeout; t != nil {
		s.tool.Exec.KillTimeout, s.tool.Supervise.KillTimeout = *t, *t
	}
	return nil
}

// forAll fills in what flags say for all templates that do not say it themselves.
func (o *options) forAll(t *tmpl.Template) {
	if len(o.checks) == 1 && t.Check == "" {
		t.Check = o.checks[0]
	}
	if t.MinItems == 0 {
		t.MinItems = o.minItems
	}
	if t.MaxShrink == 0 {
		t.MaxShrink = o.maxShrink
	}
}

// signals are those that end tmpl and make it read its configuration again.
func (s *settings) signals() error {
	name := func(given *string, otherwise string) string {
		if given != nil {
			return *given
		}
		return otherwise
	}
	reload := name(s.file.ReloadSignal, "SIGHUP")
	s.kill, _ = cli.ParseSignal(name(s.file.KillSignal, "SIGINT")) // these two: validated
	s.reload, _ = cli.ParseSignal(reload)
	if s.kill == 0 {
		s.kill = syscall.SIGINT
	}
	if s.reload != 0 && (s.reload == s.kill || s.reload == syscall.SIGTERM || s.reload == syscall.SIGINT) {
		return command.Usagef("-reload-signal %s ends tmpl", reload)
	}
	return nil
}

// logLevel is the one that was given, or consul-template's environment's.
func logLevel(given string) (slog.Level, error) {
	for _, name := range []string{"CONSUL_TEMPLATE_LOG_LEVEL", "CONSUL_TEMPLATE_LOG", "CT_LOG"} {
		if given == "" {
			given = os.Getenv(name)
		}
	}
	return logx.ParseLevel(given)
}

func wrong(flag, value string, err error) error {
	return command.Usagef("invalid value %q for flag -%s: %w", value, flag, err)
}
