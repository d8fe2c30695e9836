// Lock runs a command while it holds a lock or a slot of a semaphore.
//
//	lock deploy/ ./migrate.sh
package main

import (
	"context"
	"os"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/lockcmd"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

func main() {
	proc.InitMain()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	m := command.Main{Root: lockcmd.New("lock"), UsageCode: cli.ExitError, Stderr: os.Stderr}
	m.Root.SetOut(os.Stdout)
	return m.Run(context.Background(), args)
}
