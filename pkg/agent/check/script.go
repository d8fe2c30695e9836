package check

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/proc"
)

const scriptTimeout = 30 * time.Second

// scriptProbe runs a program without a shell. By the Nagios convention exit code 0 is
// passing, 1 warning, anything else critical.
type scriptProbe struct {
	argv    []string
	timeout time.Duration
	max     int
}

func (p scriptProbe) run(ctx context.Context) (string, string) {
	cmd := proc.Command{Argv: p.argv, Timeout: p.timeout, MaxOutput: p.max}
	res, err := cmd.Run(ctx)
	output := captured(res)
	switch {
	case errors.Is(err, proc.ErrTimeout):
		text := fmt.Sprintf("Timed out (%s) running check", p.timeout)
		if output != "" {
			text += "\n\n" + output
		}
		return api.HealthCritical, text
	case err != nil:
		return api.HealthCritical, err.Error()
	case res.Code == 0:
		return api.HealthPassing, output
	case res.Code == 1:
		return api.HealthWarning, output
	}
	return api.HealthCritical, output
}

// captured returns the output. If only its end was kept, a line before it says so.
func captured(res proc.Result) string {
	if int64(len(res.Output)) < res.Total {
		end := fromRune(res.Output)
		return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", len(end), res.Total, end)
	}
	return string(res.Output)
}

// fromRune drops the bytes of a UTF-8 character that was cut at the beginning of b.
func fromRune(b []byte) []byte {
	for i := range min(len(b), utf8.UTFMax) {
		if utf8.RuneStart(b[i]) {
			return b[i:]
		}
	}
	if len(b) < utf8.UTFMax {
		return nil
	}
	return b // not UTF-8
}
