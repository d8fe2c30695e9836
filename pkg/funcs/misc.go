package funcs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	sockaddrtemplate "github.com/hashicorp/go-sockaddr/template"
)

// maxLoop bounds loop: its numbers are held in memory.
const maxLoop = 1 << 20

func (p *pass) env(name string) string {
	for i := len(p.opts.Env) - 1; i >= 0; i-- {
		if key, value, _ := strings.Cut(p.opts.Env[i], "="); key == name {
			return value
		}
	}
	return os.Getenv(name)
}

func (p *pass) mustEnv(name string) (string, error) {
	if value := p.env(name); value != "" {
		return value, nil
	}
	return "", fmt.Errorf("mustEnv: environment variable %s is not set or empty", name)
}

func (p *pass) envOrDefault(name, def string) string {
	if value := p.env(name); value != "" {
		return value
	}
	return def
}

// loop lists the integers from 0, or from its first argument, up to but without
// its last. A text counts if parseInt reads it, so that loop (key "n") works: "" is 0.
func loop(bounds ...any) ([]int64, error) {
	if len(bounds) < 1 || len(bounds) > 2 {
		return nil, fmt.Errorf("loop: wrong number of arguments, expected 1 or 2, but got %d", len(bounds))
	}
	var from int64
	to, err := loopBound(bounds[len(bounds)-1])
	if err == nil && len(bounds) == 2 {
		from, err = loopBound(bounds[0])
	}
	if err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	numbers := []int64{}
	if from >= to {
		return numbers, nil
	}
	if to-from > maxLoop || to-from < 0 {
		return nil, fmt.Errorf("loop: %d to %d is more than %d steps", from, to, maxLoop)
	}
	for i := from; i < to; i++ {
		numbers = append(numbers, i)
	}
	return numbers, nil
}

func loopBound(v any) (int64, error) {
	if text, ok := v.(string); ok {
		return parseInt(text)
	}
	return number(v)
}

// timestamp formats now, in UTC: by RFC 3339, a layout of Go's, or "unix".
func timestamp(layout ...string) (string, error) {
	now := time.Now().UTC()
	switch {
	case len(layout) > 1:
		return "", fmt.Errorf("timestamp: wrong number of arguments, expected 0 or 1, but got %d", len(layout))
	case len(layout) == 0:
		return now.Format(time.RFC3339), nil
	case layout[0] == "unix":
		return strconv.FormatInt(now.Unix(), 10), nil
	default:
		return now.Format(layout[0]), nil
	}
}

// sockaddr runs an expression of go-sockaddr's own template language.
func sockaddr(args ...string) (string, error) {
	out, err := sockaddrtemplate.Parse("{{ " + strings.Join(args, " ") + " }}")
	if err != nil {
		return "", fmt.Errorf("sockaddr: %w", err)
	}
	return out, nil
}
