package main

import (
	"errors"
	"log/slog"
	"os"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/envexec/config"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/proc"
	shared "github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/supervise"
)

// settings are what flags, files and environment amount to.
type settings struct {
	file         *config.Config
	from         option.Origins
	tool         envexec.Config
	level        slog.Level
	kill, reload syscall.Signal
	client       *client.Client
	token        string // what the token file holds: a reload reads it again
	warnings     []string
}

// load reads everything; environ is our own environment.
func (o *options) load(environ []string) (*settings, error) {
	src := shared.Sources{Paths: o.Configs, Inline: os.Getenv("CT_LOCAL_CONFIG")}
	files, warnings, err := config.Read(src)
	if err != nil {
		return nil, o.WithCode(err, src.Inline)
	}
	files = conf.Merge(files, map[string]any{"prefix": blocks("path", o.prefixes), "service": blocks("query", o.services)})
	if len(o.command) > 0 {
		if o.Given("exec") {
			return nil, command.Usagef("-exec is given, and a command behind the flags: %q", o.command[0])
		}
		words := make([]any, len(o.command))
		for i, word := range o.command {
			words[i] = word
		}
		conf.Put(files, "exec.command", words)
	}
	s := &settings{}
	var useless []string
	if s.file, s.from, useless, err = o.Load(files); err != nil {
		return nil, err
	}
	s.warnings = append(warnings, useless...)
	return s, o.WithCode(o.settle(s, environ), src.Inline)
}

// blocks are what a file would say with a block for each of the values.
func blocks(key string, values []string) (out []any) {
	for _, value := range values {
		out = append(out, map[string]any{key: value})
	}
	return out
}

// settle turns what was read into the Tool's configuration.
func (o *options) settle(s *settings, environ []string) error {
	f, err := s.file, error(nil)
	if o.timeout != 0 && !f.Once {
		return command.Usagef("-timeout goes with -once only")
	}
	if s.level, err = logx.ParseLevel(f.LogLevel); err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	if s.kill, s.reload, err = o.Signals(f.KillSignal, f.ReloadSignal); err != nil {
		return err
	}
	conn, err := o.Connect(&f.Consul, s.from)
	if err != nil {
		return err
	}
	s.token, s.client = conn.Token, conn.Client
	if _, err := toolopts.Rollout(f.Apply, s.client, nil); err != nil {
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
			Unmarked: !own.Passes(proc.Mark),
			Command:  f.Exec.Words(), ReloadSignal: reload, KillSignal: kill, Splay: f.Exec.Splay, Timeout: f.Exec.Timeout,
		},
		Wait: f.Wait(), Jitter: f.Jitter, Cache: conn.Cache(f.CacheFile, f.CacheMaxAge), Once: f.Once, Timeout: o.timeout,
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
