package tools

import (
	"strings"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

// Three machines restart their programs one after the other: none begins before the
// program of the one before has started and its health gate has opened.
func TestEnvexecRollsAChange(t *testing.T) {
	const machines = 3
	a := harness.Dev(t)
	a.AwaitPutKey("app/v", "1")
	order := a.Folder(t)
	order.Write("order", "")
	for range machines {
		f := a.Folder(t)
		f.Write("server", `#!/bin/sh
echo "begin $v" >>`+order.File("order")+`
sleep 0.1
echo "done $v" >>`+order.File("order")+`
trap 'exit 0' INT
echo $v >out
while :; do sleep 0.02; done
`)
		f.Run("envexec", "-prefix", "app", "-apply-lock", "roll/web", "-apply-hold", "1s", "./server")
		f.AwaitText("out", "1\n") // the first start waits for nobody
	}
	order.Write("order", "")
	a.AwaitPutKey("app/v", "2")
	order.AwaitText("order", strings.Repeat("begin 2\ndone 2\n", machines))
}
