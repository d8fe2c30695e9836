package gossip

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"sync"
	"time"
)

// How many warnings and errors the libraries may log: they write one for each
// bad packet.
const (
	warningsPerSecond = 2
	warningsBurst     = 50
)

// limitedLog drops warnings and errors beyond the rate, and logs how many it dropped.
func limitedLog(l *log.Logger) *log.Logger {
	return log.New(&limitedWriter{out: l.Writer(), limit: tokenBucket{rate: warningsPerSecond, burst: warningsBurst}}, "", 0)
}

type limitedWriter struct {
	out io.Writer

	mu      sync.Mutex
	limit   tokenBucket
	dropped int
}

func (w *limitedWriter) Write(line []byte) (int, error) {
	if isRefusal(line) {
		return len(line), nil // logged when it was refused
	}
	if rest, ok := bytes.CutPrefix(line, []byte("[INFO] serf: EventMemberUpdate")); ok {
		// Tags change several times while a server starts, and say nothing to people.
		line = append([]byte("[DEBUG] serf: EventMemberUpdate"), rest...)
	}
	if !bytes.HasPrefix(line, []byte("[ERR]")) && !bytes.HasPrefix(line, []byte("[WARN]")) {
		return w.out.Write(line)
	}
	w.mu.Lock()
	fits := w.limit.allow(1, time.Now())
	dropped := w.dropped
	if fits {
		w.dropped = 0
	} else {
		w.dropped++
	}
	w.mu.Unlock()
	if !fits {
		return len(line), nil
	}
	if dropped > 0 {
		_, _ = fmt.Fprintf(w.out, "[WARN] gossip: %d messages like the next one were left out\n", dropped)
	}
	return w.out.Write(line)
}
