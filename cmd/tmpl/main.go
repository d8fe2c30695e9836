// Tmpl renders templates from live data and runs a command after it.
//
//	tmpl -template haproxy.ctmpl:haproxy.cfg -exec reload
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

func main() {
	proc.InitMain()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	o := &options{stdout: stdout, stderr: stderr}
	root := newCommand(o)
	root.SetOut(stdout)
	m := command.Main{Root: root, UsageCode: cli.ExitFlags, Stderr: stderr}
	return m.Run(context.Background(), args)
}

// start turns the flags into settings and runs the tool until it ends.
func start(ctx context.Context, o *options) error {
	s, err := o.load(os.Environ())
	if err != nil {
		return err
	}
	if s.file.ParseOnly {
		return newTool(s, s.common().Log(o.stderr, &slog.LevelVar{}, o.LogJSON), nil).Parse()
	}
	return o.run(ctx, s)
}
