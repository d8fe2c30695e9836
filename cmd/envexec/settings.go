package main

import (
	"errors"
	"log/slog"
	"os"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/toolflags"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/envexec/config"
	"github.com/muster-dev/muster/pkg/proc"
	shared "github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/supervise"
)

// settings are what flags, files and environment amount to.
type settings struct {
	file         *config.Config
	tool         envexec.Config
	level        slog.Level
	kill, reload syscall.Signal
	client       *client.Client
	token        string // what the token file holds: a reload reads it again
	warnings     []string
}

// load reads everything; environ is our own environment.
func (o *options) load(environ []string) (*settings, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	flat, useless := o.Changed(map[string]string{
		"no-prefix": "all_prefixes.no_prefix", "format": "all_prefixes.format", "json-values": "all_prefixes.json_values",
		"json": "json", "sanitize": "sanitize", "upcase": "upcase", "pristine": "pristine",
		"service-format-id": "all_services.format_id", "service-format-name": "all_services.format_name",
		"service-format-address": "all_services.format_address", "service-format-tag": "all_services.format_tag",
		"service-format-port": "all_services.format_port",
		"on-change":           "on_change", "env-file": "env_file.path", "env-file-format": "env_file.format", "exec": "exec.command",
	})
	for key, values := range map[string][]string{"prefix": o.prefixes, "service": o.services} {
		var list []any
		for _, value := range values {
			list = append(list, map[string]any{map[string]string{"prefix": "path", "service": "query"}[key]: value})
		}
		if list != nil {
			flat[key] = list
		}
	}
	if len(o.command) > 0 {
		if flat["exec.command"] != nil {
			return nil, command.Usagef("-exec is given, and a command behind the flags: %q", o.command[0])
		}
		words := make([]any, len(o.command))
		for i, word := range o.command {
			words[i] = word
		}
		flat["exec.command"] = words
	}
	src := shared.Sources{Paths: o.Configs, Inline: os.Getenv("CT_LOCAL_CONFIG"), Flags: flat}
	s := &settings{}
	var err error
	if s.file, s.warnings, err = config.Load(src); err != nil {
		return nil, o.Blame(err, src.Inline)
	}
	if useless != "" {
		s.warnings = append(s.warnings, useless)
	}
	return s, o.Blame(o.settle(s, environ), src.Inline)
}

// settle turns what was read into the Tool's configuration.
func (o *options) settle(s *settings, environ []string) error {
	f, err := s.file, error(nil)
	if o.timeout != 0 && !f.Once {
		return command.Usagef("-timeout goes with -once only")
	}
	if s.level, err = toolflags.Level(f.LogLevel, "ENVCONSUL_LOG_LEVEL", "ENVCONSUL_LOG", "CT_LOG"); err != nil {
		return err
	}
	if s.kill, s.reload, err = o.Signals(f.KillSignal, f.ReloadSignal); err != nil {
		return err
	}
	conn, err := o.Connect(&f.Consul)
	if err != nil {
		return err
	}
	s.token, s.client = conn.Token, conn.Client
	if _, err := toolflags.Rollout(f.Apply, s.client, nil); err != nil {
		return err
	}
	plan, _ := f.Plan() // this and the next: validated
	file, _ := f.File()
	block := f.Exec.Env
	own := cli.Env{Pristine: f.Pristine || block.Pristine, Allow: block.Allow, Deny: block.Deny}
	if plan.Own, err = own.Build(environ, nil); err != nil {
		return &command.UsageError{Err: err}
	}
	plan.Custom = block.Custom
	reload, _ := cli.ParseSignal(f.Exec.ReloadSignal) // these two: validated
	kill, _ := cli.ParseSignal(f.Exec.KillSignal)
	if reload == 0 {
		reload = syscall.SIGHUP
	}
	s.tool = envexec.Config{
		Plan: plan, Shell: o.Shell(), OnChange: f.WhenChanged(), EnvFile: file,
		Child: supervise.Spec{
			Unmarked: !own.Admits(proc.Mark),
			Command:  f.Exec.Words(), ReloadSignal: reload, KillSignal: kill, Splay: f.Exec.Splay, Timeout: f.Exec.Timeout,
		},
		Wait: f.Wait(), Jitter: f.Jitter, Cache: conn.Keeping(f.CacheFile, f.CacheMaxAge), Once: f.Once, Timeout: o.timeout,
		Client: conn.Client, Retry: conn.Retry, MaxStale: f.MaxStale, BlockWait: f.BlockWait,
		Stdout: o.stdout, Stderr: o.stderr,
	}
	if t := f.Exec.KillTimeout; t != nil {
		s.tool.Child.KillTimeout = *t
	}
	return nil
}

// runnable says what is missing to run something.
func (s *settings) runnable() error {
	if len(s.tool.Child.Command) == 0 {
		return cli.Hint(cli.ExitConfig, errors.New("no command given"), "envexec -prefix app/ ./server")
	}
	return nil
}
