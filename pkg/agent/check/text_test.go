package check

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/proc"
)

// TestOutputIsNotCutThroughACharacter, at whatever length.
func TestOutputIsNotCutThroughACharacter(t *testing.T) {
	text := strings.Repeat("aé€😀", 10)
	for n := 1; n < len(text); n++ {
		cut := captured(proc.Result{Output: []byte(text[len(text)-n:]), Total: int64(len(text))})
		if !utf8.ValidString(cut) {
			t.Errorf("the last %d bytes: %q", n, cut)
		}
		if tail := readTail(strings.NewReader(text), n); !utf8.Valid(tail) || len(tail) < n-3 {
			t.Errorf("the last %d bytes of a body: %q", n, tail)
		}
		ttl := newTTL(&api.CheckDefinition{TTL: api.Duration(time.Minute)}, Options{OutputMax: n}, nil)
		if kept, _ := ttl.Set(text); !utf8.ValidString(kept) || !strings.HasPrefix(kept, text[:max(0, n-3)]) {
			t.Errorf("the first %d bytes: %q", n, kept)
		}
	}
	if got := fromRune([]byte("\xbf\xbf\xbf\xbf\xbf")); len(got) != 5 {
		t.Errorf("what is no text loses %d bytes", 5-len(got))
	}
}
