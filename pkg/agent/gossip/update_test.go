package gossip

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/logx"
)

// Changes of tags are nothing that people look for: they are at level debug.
func TestUpdatesOfMembersAreQuiet(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 1} {
		var out bytes.Buffer
		l := limitedLog(logx.Std(logx.New(&out, level, false)))
		for _, text := range []string{"[INFO] serf: EventMemberUpdate: s1", "[INFO] serf: EventMemberJoin: s1 10.0.0.1"} {
			l.Print(text)
		}
		if n := strings.Count(out.String(), "EventMemberUpdate"); n != want || !strings.Contains(out.String(), "EventMemberJoin") {
			t.Errorf("at level %v: %s", level, out.String())
		}
	}
}
