package logx

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParseLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{
		"trace": LevelTrace, "DEBUG": slog.LevelDebug, "": slog.LevelInfo, "warning": slog.LevelWarn, "err": slog.LevelError,
	} {
		if got, err := ParseLevel(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseLevel("loud"); err == nil {
		t.Error("an unknown level is no error")
	}
}

func TestStdTakesLevelFromThePrefix(t *testing.T) {
	var out bytes.Buffer
	l := Std(New(&out, slog.LevelInfo, false))
	l.Print("[WARN] serf: odd")
	l.Print("[DEBUG] serf: not shown")
	l.Print("plain")
	got := out.String()
	if !strings.Contains(got, `level=WARN msg="serf: odd"`) || !strings.Contains(got, "level=INFO msg=plain") || strings.Contains(got, "not shown") {
		t.Errorf("logged:\n%s", got)
	}
}

func TestOnce(t *testing.T) {
	var o Once
	if !o.First("a") || o.First("a") || !o.First("b") {
		t.Error("a key is not first exactly once")
	}
	for i := range maxOnce {
		o.First(fmt.Sprint(i))
	}
	if !o.First("b") {
		t.Errorf("more than %d keys are remembered", maxOnce)
	}
}
