package harness

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// MaxWait bounds the wait for a condition. It is for machines with too
// much to do; a test that promises a time measures it.
const MaxWait = 60 * time.Second

// Until polls until there is no error, and fails the test after MaxWait.
func Until(t testing.TB, what string, ok func(context.Context) error) {
	t.Helper()
	Within(t, MaxWait, what, ok)
}

// Within is Until with a limit.
func Within(t testing.TB, limit time.Duration, what string, ok func(context.Context) error) {
	t.Helper()
	within(t.Context(), t, limit, what, ok)
}

// within is Within, also for what is done once the test's own context has ended.
func within(ctx context.Context, t testing.TB, limit time.Duration, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Tail is the last n lines of a file.
func Tail(path string, n int) string {
	data, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
