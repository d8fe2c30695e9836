package hclogx

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// reminderInterval is how often a record that goes on is logged, with its number of
	// repetitions.
	reminderInterval = time.Minute
	// maxRepeats bounds how many records are remembered.
	maxRepeats = 1024
)

// repeats remembers what was logged: raft logs each failed attempt, which for a server
// that is down is many times a second.
type repeats struct {
	mu   sync.Mutex
	seen map[string]*repeated
	now  func() time.Time
}

type repeated struct {
	since time.Time
	times int // repetitions since then
}

func newRepeats() *repeats { return &repeats{seen: map[string]*repeated{}, now: time.Now} }

// level gives the level at which a record is logged, and how many repetitions of it were
// not. When a peer has come back, or a leader was elected, everything is new again.
func (r *repeats) level(level slog.Level, msg string, args []any) (slog.Level, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case msg == "pipelining replication" || msg == "entering leader state":
		clear(r.seen)
		return level, 0
	case level < slog.LevelInfo, level == slog.LevelInfo && !slices.Contains(repeatedByRaft(), msg):
		return level, 0
	}
	key := msg + subject(args)
	now := r.now()
	was := r.seen[key]
	if was == nil || now.Sub(was.since) >= reminderInterval {
		held := 0
		if was != nil {
			held = was.times
		} else if len(r.seen) >= maxRepeats {
			clear(r.seen)
		}
		r.seen[key] = &repeated{since: now}
		return level, held
	}
	was.times++
	return slog.LevelDebug, 0
}

// repeatedByRaft are what raft logs at each election that fails.
func repeatedByRaft() []string {
	return []string{"entering candidate state", "pre-vote campaign failed, waiting for election timeout"}
}

// subject is the server that a record is about: the same of another server is no repetition.
func subject(args []any) string {
	var out string
	for i := 0; i+1 < len(args); i += 2 {
		if key, ok := args[i].(string); ok && slices.Contains([]string{"peer", "target", "server-id", "id", "name", "address"}, key) {
			out += fmt.Sprintf(" %s=%v", key, args[i+1])
		}
	}
	return out
}

// Log logs one record; all others call it.
func (h hc) Log(level hclog.Level, msg string, args ...any) {
	at, held := h.repeats.level(slogLevel(level), msg, args)
	if !h.enabled(at) {
		return
	}
	args = formatted(args)
	if held > 0 {
		args = append(slices.Clone(args), "repeated", held)
	}
	h.log.Log(context.Background(), at, msg, args...)
}
