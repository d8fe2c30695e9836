package command

import (
	"bytes"
	"context"
	"io"
	"strings"
)

// complete answers a shell that asks how to complete a word. Cobra completes flags with
// two dashes only: it gets every flag with two, and its answer has one dash if the user
// has typed one.
func (m Main) complete(ctx context.Context, args []string) int {
	asked := []string{args[0]}
	for _, arg := range args[1:] {
		if oneDash(arg) {
			arg = "-" + arg
		}
		asked = append(asked, arg)
	}
	out := m.Root.OutOrStdout()
	var answer bytes.Buffer
	m.Root.SetOut(&answer)
	m.Root.SetArgs(asked)
	cmd, err := m.Root.ExecuteContextC(ctx)
	for line := range strings.Lines(answer.String()) {
		line = strings.ReplaceAll(line, "`", "") // it marks what a help text calls the value
		if oneDash(args[len(args)-1]) {
			line = strings.TrimPrefix(line, "-")
		}
		if _, err := io.WriteString(out, line); err != nil {
			return m.failed(cmd, err)
		}
	}
	return m.failed(cmd, err)
}

func oneDash(arg string) bool {
	return strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--")
}
