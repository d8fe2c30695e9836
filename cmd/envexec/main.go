// Envexec runs a program whose environment holds keys and services.
//
//	envexec -prefix app/ ./server
package main

import (
	"context"
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
	root := newCommand(&options{stdout: stdout, stderr: stderr})
	root.SetOut(stdout)
	m := command.Main{Root: root, UsageCode: cli.ExitFlags, Stderr: stderr}
	return m.Run(context.Background(), args)
}

// start turns the flags into settings and runs the tool until its child ends, or a
// signal ends it.
func start(ctx context.Context, o *options) error {
	s, err := o.load(os.Environ())
	if err != nil {
		return err
	}
	if err := s.runnable(); err != nil {
		return err
	}
	return o.run(ctx, s)
}
