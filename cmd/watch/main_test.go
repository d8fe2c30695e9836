package main

import (
	"testing"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
	"github.com/muster-dev/muster/pkg/proc"
)

func TestMain(m *testing.M) {
	proc.GuardMain()
	scripttest.Main(m, "watch", main)
}

// TestScripts runs testdata/*.txtar, which are also examples of use: see package
// scripttest for the commands.
func TestScripts(t *testing.T) { scripttest.Run(t, nil, nil) }
