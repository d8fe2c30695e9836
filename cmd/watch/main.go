// Watch runs a handler when the data that it watches changes.
//
//	watch -type checks handler.sh
package main

import (
	"context"
	"os"

	"github.com/muster-dev/muster/cmd/internal/command"
	"github.com/muster-dev/muster/cmd/internal/watchcmd"
	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/proc"
)

func main() {
	proc.InitMain()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	root := watchcmd.New("watch", stdout, stderr)
	root.SetOut(stdout)
	m := command.Main{Root: root, UsageCode: cli.ExitError, Stderr: stderr}
	return m.Run(context.Background(), args)
}
