// Package bus carries short messages from any agent to all agents of the
// datacenter, at once: user events, and triggers of jobs.
//
// A message is a name and a payload. It travels two ways at the same time:
//
//   - Streams. A client agent holds one stream to a server, a server one to each
//     other server. Whoever publishes at a client sends the message to its
//     server; a server passes on what it has not seen before to every stream that
//     is held at it. The last of ten agents has it within some milliseconds.
//   - Gossip, as a serf user event of that name. It needs no server, and reaches
//     whoever is between two streams or reads his own too slowly.
//
// What it promises:
//   - A message is taken in once at each agent, whichever ways it comes: two with
//     the same name and payload are one message. A payload must therefore hold
//     something that is never twice the same, such as an id. The last MaxSeen are
//     remembered.
//   - Receive is called by one goroutine at a time, for the messages of one agent
//     mostly in the order of their publication (gossip may reorder). It must
//     return quickly, must not call the bus, and starts a goroutine for whatever
//     takes longer.
//   - Nothing is stored, acknowledged or sent again: an agent that is away misses
//     it. What must not be missed belongs into raft, with a message as the trigger
//     to go and read it.
//   - A stream that reads slowly loses the oldest beyond MaxQueued.
//
// To send a kind of message of one's own: choose a name that begins with
// "muster:", add a Receiver with that prefix to the literal list in
// pkg/agent/bus.go, and call Publish. Name and payload together may have about
// 450 bytes (gossip's limit).
package bus

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	// MaxSeen is how many messages are remembered, to know them again when they
	// come another way.
	MaxSeen = 4096
	// MaxQueued is how many messages wait for one stream.
	MaxQueued = 256
	// MaxStreams is how many streams a server serves.
	MaxStreams = 16384
	// MaxMessage is the size of a message's name and payload, more than gossip
	// carries.
	MaxMessage = 9 << 10
)

// Message is what is carried. LTime is gossip's clock at its publication.
type Message struct {
	Name    string
	Payload []byte `json:",omitempty"`
	LTime   uint64 `json:",omitempty"`
}

// Receiver takes the messages whose names begin with Prefix.
type Receiver struct {
	Prefix  string
	Receive func(Message)
}

// Gossip is what the bus needs of the gossip pool, which hands every user event
// that arrives, our own included, to Heard.
type Gossip interface {
	UserEvent(name string, payload []byte) error
}

// Config of a Bus.
type Config struct {
	Server    bool
	Gossip    Gossip
	Transport http.RoundTripper // HTTP/2 to server ports
	Servers   func() []string   // addresses (ip:port) of the living servers, never self
	Receivers []Receiver        // the first that fits takes a message; what fits none is not carried
	Logger    *slog.Logger
}

// Bus is this agent's end. Its methods may be called at any time from any
// goroutine, but from within a Receive.
type Bus struct {
	cfg Config

	mu      sync.Mutex // held while a message is taken in, which keeps the order
	seen    recent
	mine    recent // published here
	streams map[*queue]struct{}
	outbox  *queue // published at this client, for a server

	changed chan struct{}          // the servers are others; has room for one
	linked  atomic.Pointer[string] // the server that the newest stream is held to
}

// New makes a bus. It does nothing until Run.
func New(cfg Config) *Bus {
	return &Bus{
		cfg:     cfg,
		seen:    newRecent(MaxSeen),
		mine:    newRecent(MaxQueued),
		streams: map[*queue]struct{}{},
		outbox:  newQueue(),
		changed: make(chan struct{}, 1),
	}
}

// Run keeps the streams to the servers until ctx ends.
func (b *Bus) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	if !b.cfg.Server {
		loops.Go(func() { b.sendOutbox(ctx) })
	}
	b.keepLinks(ctx)
	return nil
}

// Publish sends a message to all agents, this one included. An error is
// gossip's, in its own words: the message was not sent.
func (b *Bus) Publish(name string, payload []byte) error {
	b.mu.Lock()
	b.mine.add(keyOf(name, payload)) // Heard comes back before UserEvent does
	b.mu.Unlock()
	return b.cfg.Gossip.UserEvent(name, payload)
}

// Heard takes a user event that the gossip pool has received. One that is old was
// sent before this agent came, unless it sent it itself: it is only remembered.
func (b *Bus) Heard(m Message, old bool) {
	key := keyOf(m.Name, m.Payload)
	b.mu.Lock()
	if old && !b.mine.has(key) {
		b.seen.add(key)
	}
	b.mu.Unlock()
	b.take(m)
}

// MembersChanged tells the bus that the servers may be others. It returns at
// once.
func (b *Bus) MembersChanged() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Accept takes the messages that another agent has sent (one JSON value after
// the other) and passes them on.
func (b *Bus) Accept(body []byte) error {
	for line := range strings.Lines(string(body)) {
		m, err := parse([]byte(line))
		if err != nil {
			return api.Errorf(http.StatusBadRequest, "read message: %v", err)
		}
		b.take(m)
	}
	return nil
}

// take passes a message on and has it received, unless it was before.
func (b *Bus) take(m Message) {
	r := b.receiver(m.Name)
	if r == nil {
		return
	}
	key := keyOf(m.Name, m.Payload)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.seen.add(key) {
		return
	}
	if mine := !b.cfg.Server && b.mine.has(key); mine || len(b.streams) > 0 {
		line := m.line()
		for q := range b.streams {
			q.push(line)
		}
		if mine {
			b.outbox.push(line)
		}
	}
	r.Receive(m)
}

func (b *Bus) receiver(name string) *Receiver {
	for i, r := range b.cfg.Receivers {
		if strings.HasPrefix(name, r.Prefix) {
			return &b.cfg.Receivers[i]
		}
	}
	return nil
}

func (m Message) line() []byte {
	line, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings, bytes and numbers always encode
	}
	return append(line, '\n')
}

func parse(line []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return m, err
	}
	if n := len(m.Name) + len(m.Payload); n > MaxMessage {
		return m, fmt.Errorf("it has %d bytes, more than %d", n, MaxMessage)
	}
	return m, nil
}

// key tells messages apart.
type key [16]byte

func keyOf(name string, payload []byte) key {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s", len(name), name)
	sum.Write(payload)
	return key(sum.Sum(nil)[:16])
}

// recent remembers the last keys.
type recent struct {
	known map[key]struct{}
	ring  []key // once full, next is the oldest
	next  int
	most  int
}

func newRecent(most int) recent { return recent{known: map[key]struct{}{}, most: most} }

func (r *recent) has(k key) bool {
	_, ok := r.known[k]
	return ok
}

// add says whether the key is new.
func (r *recent) add(k key) bool {
	if r.has(k) {
		return false
	}
	r.known[k] = struct{}{}
	if len(r.ring) < r.most {
		r.ring = append(r.ring, k)
		return true
	}
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = k
	r.next = (r.next + 1) % r.most
	return true
}
