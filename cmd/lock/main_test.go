package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
)

func TestMain(m *testing.M) {
	scripttest.Main(m, "lock", main)
}

// TestScripts runs testdata/*.txtar, which are also examples of use: see package
// scripttest for the commands; there is also
//
//	until_waiting PREFIX   wait until somebody waits for a lock
func TestScripts(t *testing.T) {
	scripttest.Run(t, nil, map[string]func(*testscript.TestScript, bool, []string){"until_waiting": untilWaiting})
}

func untilWaiting(ts *testscript.TestScript, _ bool, a []string) {
	ts.Check(ts.Exec("sh", "-c", `for i in $(seq 200); do lock show "$1" | grep -q "^Waiter:" && exit 0; sleep 0.05; done; exit 1`, "sh", a[0]))
}
