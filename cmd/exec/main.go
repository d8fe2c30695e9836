// Exec runs a command on many nodes at once.
//
//	env exec -service web uptime
package main

import (
	"context"
	"os"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/execcmd"
	"github.com/muster-dev/muster/pkg/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr *os.File) int {
	root := execcmd.New("exec", stdout, stderr)
	root.SetOut(stdout)
	m := command.Main{Root: root, UsageCode: cli.ExitError, Stderr: stderr}
	return m.Run(context.Background(), args)
}
