package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/option"
	"github.com/muster-dev/muster/cmd/internal/toolopts"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/env"
	"github.com/muster-dev/muster/pkg/envexec"
	"github.com/muster-dev/muster/pkg/envexec/config"
)

const longPrint = `Print writes the variables as they are now, and runs nothing. The forms give back
exactly the values, those of several lines too; what a form cannot hold is an error that
names the variable.

  shell    export NAME='value'; for eval "$(envexec print ...)" in any POSIX shell
  dotenv   NAME='value'
  systemd  for EnvironmentFile=
  json     one object
  null     NAME=value, each ended by a zero byte: for xargs -0, or env -S

-explain prints a table instead: the name, the key it is from, the source, and the keys
that it wins over. It holds no values.`

func printCommand(stdout, stderr *os.File) *cobra.Command {
	o := &options{stdout: stdout, stderr: stderr}
	cmd := &cobra.Command{
		Use: "print [-o FORM] [-prefix PREFIX] [flags]", Short: "print the variables", Long: longPrint,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return command.Usagef("unexpected argument %q: to run a program called print, write -- before it", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.print(cmd.Context()) },
	}
	o.output = string(env.Shell)
	o.Options = toolopts.New[config.Config](cmd.Flags(), "envexec")
	o.Add(option.Option{Flag: "o", To: &o.output, Help: "`form`: json, shell, dotenv, systemd or null"},
		option.Option{Flag: "explain", To: &o.explain, Help: "print which key makes which variable instead"})
	o.addSources()
	o.Add(option.Option{Flag: "exec-env-denylist", Key: "exec.env.denylist", Help: "`pattern` of names to leave out, repeatable"},
		option.Option{Flag: "timeout", To: &o.timeout, Help: "give up after this `time` without data (exit code 14)"})
	o.Add(o.Connection()...)
	return cmd
}

func (o *options) print(parent context.Context) error {
	output, err := env.ParseOutput(o.output)
	if err != nil {
		return command.WrongValue("o", o.output, err)
	}
	timeout := o.timeout
	o.timeout = 0 // which settle allows with -once only
	s, err := o.load(os.Environ())
	if err != nil {
		return err
	}
	s.tool.Logger = s.common().Log(o.stderr, &slog.LevelVar{}, o.LogJSON)
	s.tool.Timeout = timeout
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	defer stop()
	vars, err := envexec.New(s.tool).Fetch(ctx)
	if err != nil {
		return err
	}
	text := []byte(env.Explain(vars))
	if !o.explain {
		if text, err = env.Print(vars, output); err != nil {
			return cli.Exit(cli.ExitRun, err)
		}
	}
	_, err = o.stdout.Write(text)
	return err
}
