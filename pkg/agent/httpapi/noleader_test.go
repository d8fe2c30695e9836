package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// TestWhoIsMissingIsSaid beside the reference's text, and logged once for all who
// wait.
func TestWhoIsMissingIsSaid(t *testing.T) {
	var log strings.Builder
	r := newRig(t, func(c *Config) { c.HoldTimeout, c.Logger = time.Millisecond, logx.New(&log, nil, false) })
	r.cluster.set(func(c *fakeCluster) { c.awaitErr = api.ErrNoLeader })
	for range 3 {
		w := r.do("PUT /v1/kv/a", "v")
		if w.Code != 500 || w.Body.String() != api.TextNoLeader || w.Header().Get(api.HeaderReason) == "" {
			t.Fatalf("%d %q, %q", w.Code, w.Body, w.Header().Get(api.HeaderReason))
		}
	}
	if n := strings.Count(log.String(), "wait for a leader in vain"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	var l noLeaderLog
	at := time.Now()
	for i, want := range []bool{true, false, true} { // the third comes later than repeatAfter
		if i == 2 {
			at = at.Add(repeatAfter)
		}
		if got := l.due("why", at); got != want {
			t.Errorf("asked for the %d. time: %v", i+1, got)
		}
	}
	if !l.due("another", at) {
		t.Error("another reason is not logged")
	}
}
