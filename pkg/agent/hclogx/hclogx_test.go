package hclogx

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-dev/muster/pkg/logx"
)

func TestHC(t *testing.T) {
	var out bytes.Buffer
	level := &slog.LevelVar{}
	l := New(logx.New(&out, level, false)).Named("raft").With("id", 7)
	l.Info("conf", "servers", hclog.Fmt("%d of %d", 1, 3))
	l.Debug("not shown")
	if got := out.String(); !strings.Contains(got, `servers="1 of 3"`) || !strings.Contains(got, "id=7") || strings.Contains(got, "not shown") {
		t.Errorf("logged:\n%s", got)
	}
	if l.IsDebug() || !l.IsInfo() || l.GetLevel() != hclog.Info || l.Name() != "raft" {
		t.Errorf("level %v, name %q", l.GetLevel(), l.Name())
	}
	level.Set(slog.LevelDebug)
	if !l.IsDebug() {
		t.Error("a changed level is not seen")
	}
}
