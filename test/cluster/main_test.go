// Package cluster tests muster as its users run it: real processes on loopback
// addresses of their own, with data on disk.
package cluster

import (
	"os"
	"testing"

	"github.com/muster-dev/muster/test/harness"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(beatEnv); file != "" {
		beatFor(file)
	}
	os.Exit(harness.Main(m))
}

type (
	agent   = harness.Agent
	cluster = harness.Cluster
)
