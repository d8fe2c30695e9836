package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/muster-dev/muster/pkg/cli"
)

// Printer is a handler that prints its input.
type Printer struct {
	Out    io.Writer // a closed pipe ends the process, as of any program that prints
	Indent bool
}

// Handle implements Handler.
func (p Printer) Handle(_ context.Context, in Input) error {
	data := in.Data
	if p.Indent {
		var b bytes.Buffer
		if err := json.Indent(&b, data, "", "    "); err != nil {
			return fmt.Errorf("print a result: %w", err)
		}
		data = b.Bytes()
	}
	if _, err := p.Out.Write(data); err != nil {
		cli.ExitOnEPIPE(err)
		return fmt.Errorf("print a result: %w", err)
	}
	return nil
}
