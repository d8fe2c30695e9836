package hclogx

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/logx"
)

// A server that is down is told of once, then once a minute; of each apart, and anew
// once it was back.
func TestRepeatedErrorsAreSaidOnce(t *testing.T) {
	var out bytes.Buffer
	h := New(logx.New(&out, slog.LevelInfo, false)).(hc)
	now := time.Unix(0, 0)
	h.repeats.now = func() time.Time { return now }
	count := func(text string) int { return strings.Count(out.String(), text) }
	for range 300 { // five minutes, one a second
		h.Named("raft").Error("failed to heartbeat to", "peer", "10.0.0.2:8300", "error", "refused")
		h.With("k", "v").Error("failed to heartbeat to", "peer", "10.0.0.3:8300", "error", "refused")
		h.Info("entering candidate state", "term", now.Unix())
		h.Info("something else")
		now = now.Add(time.Second)
	}
	if a, b, c := count("10.0.0.2:8300"), count("10.0.0.3:8300"), count("candidate"); a != 5 || b != 5 || c != 5 {
		t.Errorf("said %d, %d and %d times in five minutes", a, b, c)
	}
	if count("repeated=59") != 12 || count("something else") != 300 {
		t.Errorf("repeats are told of %d times; what is no repetition %d times", count("repeated=59"), count("something else"))
	}
	h.Info("pipelining replication", "peer", "10.0.0.2:8300")
	out.Reset()
	h.Error("failed to heartbeat to", "peer", "10.0.0.2:8300", "error", "refused")
	if count("10.0.0.2:8300") != 1 {
		t.Error("a second failure is not told of")
	}
}
