package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/connect"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/conf"
	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/proc"
	shared "github.com/muster-dev/muster/pkg/settings"
	"github.com/muster-dev/muster/pkg/supervise"
	"github.com/muster-dev/muster/pkg/tmpl"
	"github.com/muster-dev/muster/pkg/tmpl/config"
)

// settings are what flags, files and environment amount to.
type settings struct {
	file         *config.Config
	from         option.Origins
	tool         tmpl.Config
	level        slog.Level
	kill, reload syscall.Signal
	client       *client.Client
	token        string // what the token file holds: a reload reads it again
	warnings     []string
}

// load reads everything; environ is our own environment.
func (o *options) load(environ []string) (*settings, error) {
	templates, err := o.check()
	if err != nil {
		return nil, err
	}
	src := shared.Sources{Paths: o.Configs, Inline: os.Getenv("CT_LOCAL_CONFIG")}
	files, warnings, err := config.Read(src)
	if err != nil {
		return nil, o.WithCode(err, src.Inline)
	}
	if len(templates) > 0 {
		files = conf.Merge(files, map[string]any{"template": templates})
	}
	s := &settings{}
	var useless []string
	if s.file, s.from, useless, err = o.Load(files); err != nil {
		return nil, err
	}
	s.warnings = append(warnings, useless...)
	if err := o.settle(s, environ); err != nil {
		return nil, o.WithCode(err, src.Inline)
	}
	return s, nil
}

// check finds what is wrong with the command line itself and gives its templates,
// as a file would have them.
func (o *options) check() ([]any, error) {
	switch {
	case len(o.checks) > 1:
		return nil, command.Usagef("-check is given twice: one check is for all templates")
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
			return nil, command.WrongValue("template", spec, err)
		}
		if other, twice := at[t.Destination]; twice && t.Destination != "" {
			return nil, command.WrongValue("template", spec, fmt.Errorf("template %s has the same destination", other))
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
	if s.level, err = logx.ParseLevel(f.LogLevel); err != nil {
		return cli.Exit(cli.ExitConfig, err)
	}
	if s.kill, s.reload, err = o.Signals(f.KillSignal, f.ReloadSignal); err != nil {
		return err
	}
	s.tool = tmpl.Config{
		Once: f.Once, Timeout: o.timeout, Dry: o.dry, MaxStale: f.MaxStale, BlockWait: f.BlockWait,
		MinInterval: f.MinInterval, Jitter: f.Jitter,
		Wait: f.Wait(), FailOnMissing: f.FailOnMissing, Shell: o.Shell(), Stdout: o.stdout, Stderr: o.stderr,
	}
	return o.connect(s, words, environ)
}

// connect adds the client, and the commands with what they are to know of it.
func (o *options) connect(s *settings, supervised, environ []string) error {
	f := s.file
	conn, err := o.Connect(&f.Consul, s.from)
	if err != nil {
		return err
	}
	s.tool.Client, s.tool.Retry, s.token = conn.Client, conn.Retry, conn.Token
	s.tool.Cache = conn.Cache(f.CacheFile, f.CacheMaxAge)
	extra := connect.Environ(conn.Config)
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
	s.client = conn.Client
	if _, err := toolopts.Rollout(f.Apply, s.client, nil); err != nil {
		return err
	}
	reload, _ := cli.ParseSignal(f.Exec.ReloadSignal) // these two: validated
	kill, _ := cli.ParseSignal(f.Exec.KillSignal)
	child := supervise.Spec{
		ReloadSignal: reload, KillSignal: kill, Splay: f.Exec.Splay, Timeout: f.Exec.Timeout,
		Unmarked: !f.Exec.Env.Passes(proc.Mark),
	}
	if t := f.Exec.KillTimeout; t != nil {
		child.KillTimeout = *t
	}
	s.tool.ChildEnv, s.tool.Exec, s.tool.Supervise = env, child, child
	s.tool.Supervise.Command = supervised
	if o.exec != "" {
		s.tool.Exec.Command = []string{o.exec}
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
