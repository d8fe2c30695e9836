// Package tools tests tmpl, envexec and watch as their users run them: the real binaries,
// real muster agents, a real HAProxy.
package tools

import (
	"os"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

type (
	agent  = harness.Agent
	folder = harness.Folder
)
