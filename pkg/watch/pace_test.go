package watch

import (
	"testing"
	"time"
)

func TestParseWait(t *testing.T) {
	for in, want := range map[string]Wait{
		"2s": {Min: 2 * time.Second}, "2s:10s": {Min: 2 * time.Second, Max: 10 * time.Second}, "0s": {},
	} {
		if got, err := ParseWait(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "x", "-1s", "10s:2s", "1s:x", "1s:"} {
		if got, err := ParseWait(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
