// Package watch follows many queries at once and hands out what changed, in
// frames. It is the floor that every reacting tool stands on.
//
// Its interface is that of muster's subscription: a set of queries goes in, and
// may grow and shrink at any time; frames {Index, Results} come out, each with
// every followed result that differs from what the caller has.
//
// There are two transports. A muster agent is asked by one subscription that
// carries all queries (stream.go): a frame is the state at one raft index. An
// agent that does not know that path, such as a Consul, is asked by one long-poll
// per query (poll.go): such a frame has Index 0 and makes no promise of one moment.
// It is handed out when every followed query has answered or is known to fail, and
// then whenever something has changed. Frames are coalesced while nobody asks.
// Which transport an agent needs is found out and remembered until a reconnect.
// What a subscription cannot carry (another datacenter, the agent's own endpoints, what
// is beyond the number of queries that it takes) is always polled.
//
// What it promises: a result once given out stands until a newer one that was
// really answered replaces it; outages, errors and doubtful answers never take
// it away. An answer that takes everything away, or more than half of it, is
// doubtful until a leader has confirmed it by a consistent read. It asks for ever, with backoff, says once that it cannot get an
// answer and once that it can again (unless Retry.Attempts ends it). Equal
// content makes no frame, whatever the index does. An absent key is a result,
// not an error. The number of requests in flight is bounded.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// ErrStopped is what Next returns once Run has ended in order.
var ErrStopped = errors.New("watcher stopped")

// Request names what is read: a path of the HTTP API below its host, and the
// parameters beside consistency and blocking, as url.Values.Encode writes them.
// Queries are compared with ==.
type Request struct {
	Path   string
	Params string
}

func (q Request) String() string {
	if q.Params == "" {
		return q.Path
	}
	return q.Path + "?" + q.Params
}

// Result is the answer to one query. Values are shared: never change them.
type Result struct {
	Value any    // see Decode for the type
	Index uint64 // as the server gave it; of the query, not of the frame
	Empty bool   // nothing is there: an absent key, no instances, an empty list
	Items int    // how many things are there: instances, keys, nodes; 1 for what is no list
}

// Frame is what changed since the frame before.
type Frame struct {
	Index   uint64 // the one raft index of all results; 0 where there is no such promise
	Results map[Request]Result
}

// Getter is the part of *client.Client that is needed.
type Getter interface {
	Get(ctx context.Context, path string, o *client.Options, out any) (client.Meta, error)
}

// Retry says how often and when a failed request is sent again. The delay
// before attempt n+1 is Backoff*2^n, at most MaxBackoff, with jitter.
type Retry struct {
	Attempts   int           // failures in a row of one query that end it all; 0: for ever
	Backoff    time.Duration // 250 ms
	MaxBackoff time.Duration // 1 min
}

// Config configures a Watcher. Only Client and Logger are required.
type Config struct {
	Client    Getter
	Logger    *slog.Logger
	Retry     Retry
	BlockWait time.Duration // how long one long-poll waits: 1 min
	MaxStale  time.Duration // above zero: read stale, unless the answer is older
	PollEvery time.Duration // for what cannot block, such as the datacenters: 15 s
	FirstWait time.Duration // how long changes wait for queries that never answered: 1 s
	MaxPolls  int           // long-polls in flight: 160
	MaxAsks   int           // other requests in flight: 16
	// MaxStreamed is how many queries one subscription carries: api.MaxSubscribedQueries,
	// above which an agent refuses it. Those beyond are asked by long-polls.
	MaxStreamed int
}

// An agent allows a client address 200 connections. The defaults stay below,
// because a transport dials more than are used and other tools want some.
const (
	defaultMaxPolls = 160
	defaultMaxAsks  = 16
)

// Watcher follows queries. Its methods are safe for concurrent use, but there
// is one reader: what Next has handed out, it does not hand out again.
type Watcher struct {
	cfg      Config
	polls    limiter
	asks     limiter
	failures *failureLog

	reconnected chan struct{} // capacity 1: a poll got through after an outage

	mu         sync.Mutex      // before outage.mu, where both are held
	run        context.Context // nil until Run, which alone may start followers
	end        context.CancelFunc
	wg         sync.WaitGroup
	followers  map[Request]*follower
	polling    bool          // the agent has no subscriptions
	index      uint64        // of the last frame of a subscription
	setChanged chan struct{} // closed when the stream has to begin anew
	overflow   bool          // it was said that there are more queries than the stream carries
	rotating   bool
	pollCtx    context.Context // ends when crowded changes: running polls ask anew
	endPolls   context.CancelFunc
	dirtyAt    time.Time // when the oldest result arrived that is not handed out
	err        error
	wake       chan struct{} // capacity 1: something changed for Next
}

// New makes a Watcher; it asks nothing before Run.
func New(cfg Config) *Watcher {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.Retry.Backoff, 250*time.Millisecond)
	def(&cfg.Retry.MaxBackoff, time.Minute)
	def(&cfg.BlockWait, time.Minute)
	def(&cfg.PollEvery, 15*time.Second)
	def(&cfg.FirstWait, time.Second)
	if cfg.MaxPolls <= 0 {
		cfg.MaxPolls = defaultMaxPolls
	}
	if cfg.MaxAsks <= 0 {
		cfg.MaxAsks = defaultMaxAsks
	}
	if cfg.MaxStreamed <= 0 {
		cfg.MaxStreamed = api.MaxSubscribedQueries
	}
	w := &Watcher{
		cfg:       cfg,
		polls:     newLimiter(cfg.MaxPolls),
		asks:      newLimiter(cfg.MaxAsks),
		failures:  newFailureLog(cfg.Logger),
		followers: map[Request]*follower{},
		wake:      make(chan struct{}, 1),

		reconnected: make(chan struct{}, 1),
		setChanged:  make(chan struct{}),
	}
	_, streams := cfg.Client.(Streamer)
	w.polling = !streams
	w.pollCtx, w.endPolls = context.WithCancel(context.Background())
	return w
}

// Run asks until ctx ends, or until a query has failed Retry.Attempts times in
// a row, which alone is an error. It can run once.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	if w.run != nil {
		w.mu.Unlock()
		return errors.New("watcher runs already")
	}
	w.run, w.end = ctx, cancel
	for _, f := range w.followers {
		if !w.streams(f) {
			w.start(f)
		}
	}
	if !w.polling {
		w.wg.Go(func() { w.subscribe(ctx) })
	}
	w.mu.Unlock()

	<-ctx.Done()
	w.mu.Lock()
	err := w.err
	if err == nil {
		w.err = ErrStopped
	}
	w.mu.Unlock()
	w.notify()
	w.wg.Wait()
	w.endPolls()
	return err
}

// Follow replaces the set of queries. Those that stay go on undisturbed; those
// that are new are asked at once.
func (w *Watcher) Follow(queries []Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep, anew := make(map[Request]bool, len(queries)), false
	for _, q := range queries {
		keep[q] = true
	}
	for q, f := range w.followers {
		if !keep[q] {
			anew = anew || canStream(q)
			f.stop()
			w.failures.forget(f)
			delete(w.followers, q)
		}
	}
	room := w.fillStream()
	for _, q := range queries {
		if w.followers[q] != nil {
			continue
		}
		f := &follower{query: q}
		if canStream(q) {
			f.overLimit = room <= 0
			anew = anew || !f.overLimit
			room--
		}
		w.followers[q] = f
		if !w.streams(f) {
			w.start(f)
		}
	}
	w.logOverflow(-room)
	if anew {
		w.resubscribe()
	}
	w.updateRotation()
	w.notify()
}

// updateRotation looks whether there are more queries than slots, which decides how long
// polls may wait. Callers hold mu.
func (w *Watcher) updateRotation() {
	if crowded := w.polled() > w.polls.size(); crowded != w.rotating {
		w.rotating = crowded
		w.endPolls()
		w.pollCtx, w.endPolls = context.WithCancel(context.Background())
	}
}

// polled is how many queries are asked by long-polls. Callers hold mu.
func (w *Watcher) polled() int {
	n := 0
	for _, f := range w.followers {
		if !w.streams(f) {
			n++
		}
	}
	return n
}

// Next waits for a frame. It returns an error when ctx or Run has ended.
func (w *Watcher) Next(ctx context.Context) (Frame, error) {
	for {
		frame, settles, err := w.nextFrame()
		if err != nil || len(frame.Results) > 0 {
			return frame, err
		}
		var settled <-chan time.Time
		if settles > 0 {
			settled = time.After(settles)
		}
		select {
		case <-w.wake:
		case <-settled:
		case <-ctx.Done():
			return Frame{}, ctx.Err()
		}
	}
}

// Pump hands frames on until ctx or Run has ended; while nobody takes them, what is new
// gathers.
func (w *Watcher) Pump(ctx context.Context, frames chan<- Frame) {
	for {
		frame, err := w.Next(ctx)
		if err != nil {
			return
		}
		select {
		case frames <- frame:
		case <-ctx.Done():
			return
		}
	}
}

// nextFrame is a frame, if one is due; else how long until the results at hand are
// given out without those that never came.
func (w *Watcher) nextFrame() (Frame, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return Frame{}, 0, w.err
	}
	dirty, open := 0, false
	for _, f := range w.followers {
		if f.dirty {
			dirty++
		}
		open = open || !f.answered && f.failure == nil
	}
	if dirty == 0 {
		w.dirtyAt = time.Time{}
		return Frame{}, 0, nil
	}
	if wait := w.cfg.FirstWait - time.Since(w.dirtyAt); open && wait > 0 {
		return Frame{}, wait, nil
	}
	frame := Frame{Index: w.index, Results: make(map[Request]Result, dirty)}
	for q, f := range w.followers {
		if f.dirty {
			if !w.streams(f) {
				frame.Index = 0
			}
			frame.Results[q] = f.result
			f.dirty = false
		}
	}
	w.dirtyAt = time.Time{}
	return frame, 0, nil
}

// Failing says which followed queries have no answer at the moment, and why.
func (w *Watcher) Failing() map[Request]error {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[Request]error{}
	for q, f := range w.followers {
		if f.failure != nil {
			out[q] = f.failure
		}
	}
	return out
}

// Failure is a look-up without an answer, for people.
type Failure struct {
	Query string `json:"query"`
	Error string `json:"error"`
}

// Failures sorts what Failing gives.
func Failures(failing map[Request]error) []Failure {
	out := []Failure{}
	for q, err := range failing {
		out = append(out, Failure{q.String(), err.Error()})
	}
	slices.SortFunc(out, func(a, b Failure) int { return strings.Compare(a.Query, b.Query) })
	return out
}

// start begins to ask. Callers hold mu.
func (w *Watcher) start(f *follower) {
	if w.run == nil || w.run.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.run)
	f.cancel = cancel
	w.wg.Go(func() {
		defer cancel()
		w.follow(ctx, f)
	})
}

// giveUp ends everything: Next and Run return the error.
func (w *Watcher) giveUp(q Request, attempts int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("give up on %s after %d attempts: %w", q, attempts, err)
	}
	w.end()
}

func (w *Watcher) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
