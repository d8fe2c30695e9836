package main

import (
	"testing"

	"github.com/muster-dev/muster/cmd/internal/scripttest"
)

func TestMain(m *testing.M) {
	scripttest.Main(m, "watch", main)
}

// TestScripts runs testdata/*.txtar, which are also examples of use: see package
// scripttest for the commands.
func TestScripts(t *testing.T) { scripttest.Run(t, nil, nil) }
