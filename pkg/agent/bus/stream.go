package bus

import (
	"net/http"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Path of the bus on the server port: GET is a stream of messages, one JSON
// value a line, PUT takes some.
const Path = "/v1/internal/bus"

const (
	// heartbeat is how often a quiet stream says that it lives, by an empty line.
	// HTTP/2's pings find a dead machine sooner; this finds a server that hangs.
	heartbeat = 10 * time.Second
	// silence is how long the other end waits for one.
	silence = 25 * time.Second
)

// ServeStream serves one agent's stream until the request ends.
func (b *Bus) ServeStream(w http.ResponseWriter, r *http.Request) error {
	q := newQueue()
	if err := b.attach(q); err != nil {
		return err
	}
	defer b.detach(q)
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	line := []byte("\n") // the first one says that the stream stands
	for {
		// The deadline holds for the quiet time until the next line, too.
		_ = control.SetWriteDeadline(time.Now().Add(silence))
		if _, err := w.Write(line); err != nil {
			return nil
		}
		if err := control.Flush(); err != nil {
			return nil
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
			line = []byte("\n")
		case <-q.ready:
			line = q.take()
		}
	}
}

func (b *Bus) attach(q *queue) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.streams) >= MaxStreams {
		return api.Errorf(http.StatusServiceUnavailable, "this server holds %d streams already: use another", MaxStreams)
	}
	b.streams[q] = struct{}{}
	return nil
}

func (b *Bus) detach(q *queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.streams, q)
}

// queue holds the lines that wait for one reader.
type queue struct {
	ready chan struct{} // has room for one: there is something to take

	mu    sync.Mutex // below Bus.mu
	lines [][]byte
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// push adds a line; beyond MaxQueued the oldest is lost.
func (q *queue) push(line []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) >= MaxQueued {
		q.lines = q.lines[1:]
	}
	q.lines = append(q.lines, line)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take hands out everything that waits.
func (q *queue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []byte
	for _, line := range q.lines {
		all = append(all, line...)
	}
	q.lines = nil
	return all
}
