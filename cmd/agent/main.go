// Agent runs a muster agent, or one of the operator's subcommands against one
// that runs.
//
//	agent -dev
//	agent kv put app/greeting hello
package main

import (
	"context"
	"os"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/pkg/cli"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	m := command.Main{Root: newCommand(), UsageCode: cli.ExitError, Stderr: os.Stderr}
	m.Root.SetOut(os.Stdout)
	return m.Run(context.Background(), args)
}
