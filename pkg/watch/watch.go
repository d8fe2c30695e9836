// Package watch follows many requests at once and returns what changed, in
// frames. Every tool that reacts to changes uses it.
//
// Its interface is that of muster's subscription: the caller gives a set of
// requests, which may change at any time, and gets frames {Index, Results}, each with
// every followed result that differs from what the caller has.
//
// There are two transports. A muster agent gets one subscription that carries all
// requests (stream.go): a frame is the state at one raft index. An agent without that
// path, such as a Consul, gets one long-poll per request (poll.go): such a frame has
// Index 0, and its results may be of different moments. Next returns a frame when
// every followed request has an answer or a known failure, and then whenever
// something has changed. Frames are coalesced while nobody calls Next.
// The Watcher detects which transport an agent needs, and remembers it until a
// reconnect. What a subscription cannot carry (another datacenter, the agent's own
// endpoints, requests above its limit) is always polled.
//
// What it promises:
//
//   - A result stays until a newer answer replaces it. Outages, errors and suspicious
//     answers never remove it. An answer that removes everything, or more than half,
//     is suspicious until a leader has confirmed it by a consistent read.
//   - It retries for ever, with backoff (unless Retry.Attempts is set), and logs a
//     failure once when it begins and once when it ends.
//   - Equal content makes no frame, even if the index changed. An absent key is a
//     result, not an error.
//   - The number of requests in flight is bounded.
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
	"github.com/muster-dev/muster/pkg/broadcast"
	"github.com/muster-dev/muster/pkg/client"
)

// ErrStopped is what Next returns once Run has ended in order.
var ErrStopped = errors.New("watcher stopped")

// Request is one read of the HTTP API: its path, and its parameters as
// url.Values.Encode writes them, without those of consistency and blocking.
// Requests are compared with ==.
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

// Result is the answer to one request. Values are shared: never change them.
type Result struct {
	Value any    // see Decode for the type
	Index uint64 // as the server gave it; of the request, not of the frame
	Empty bool   // an absent key, no instances, an empty list
	Items int    // number of instances, keys, nodes; 1 for what is no list
}

// Frame is what changed since the frame before.
type Frame struct {
	Index   uint64 // the raft index of all results; 0: they may be of different moments
	Results map[Request]Result
}

// Getter is the part of *client.Client that a Watcher needs.
type Getter interface {
	Get(ctx context.Context, path string, o *client.Options, out any) (client.Meta, error)
}

// Retry says how often and when a Watcher repeats a failed request. The delay
// before attempt n+1 is Backoff*2^n, MaxBackoff at most, plus up to a fifth by chance.
type Retry struct {
	Attempts   int           // failures in a row of one request after which Run fails; 0: it never does
	Backoff    time.Duration // 250 ms
	MaxBackoff time.Duration // 1 min
}

// Config configures a Watcher. Only Client and Logger are required.
type Config struct {
	Client    Getter
	Logger    *slog.Logger
	Retry     Retry
	BlockWait time.Duration // of one long-poll; default 1 min
	MaxStale  time.Duration // above zero: read stale, unless the answer is older
	PollEvery time.Duration // for what cannot block, such as the datacenters; default 15 s
	FirstWait time.Duration // how long a frame waits for requests without any answer yet; default 1 s
	MaxPolls  int           // long-polls in flight; default 160
	MaxReads  int           // other requests in flight; default 16
	// MaxStreamed is how many requests one subscription carries. The default is
	// api.MaxSubscribedQueries: an agent refuses more. Long-polls do the others.
	MaxStreamed int
}

// An agent allows a client address 200 connections. The defaults stay below: a
// transport dials more than it uses, and other tools need some.
const (
	defaultMaxPolls = 160
	defaultMaxReads = 16
)

// Watcher follows requests. Its methods are safe for concurrent use, but it has one
// reader: Next returns a change once.
type Watcher struct {
	cfg      Config
	polls    limiter
	reads    limiter
	failures *failureLog

	reconnected chan struct{} // capacity 1: a poll succeeded after the agent was unreachable

	mu          sync.Mutex      // locked before failureLog.mu
	run         context.Context // nil until Run, which alone starts requests
	end         context.CancelFunc
	wg          sync.WaitGroup
	requests    map[Request]*followed
	polling     bool             // the agent has no subscriptions
	index       uint64           // of the last frame of a subscription
	resubscribe broadcast.Signal // the stream has to carry another set
	overflow    bool             // it has logged that the stream cannot carry all requests
	rotating    bool
	pollCtx     context.Context // ends when rotating changes: polls in flight are sent again
	endPolls    context.CancelFunc
	dirtyAt     time.Time // when the oldest result arrived that Next has not returned
	err         error
	wake        chan struct{} // capacity 1: something changed for Next
}

// New makes a Watcher. It sends nothing before Run.
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
	if cfg.MaxReads <= 0 {
		cfg.MaxReads = defaultMaxReads
	}
	if cfg.MaxStreamed <= 0 {
		cfg.MaxStreamed = api.MaxSubscribedQueries
	}
	w := &Watcher{
		cfg:      cfg,
		polls:    newLimiter(cfg.MaxPolls),
		reads:    newLimiter(cfg.MaxReads),
		failures: newFailureLog(cfg.Logger),
		requests: map[Request]*followed{},
		wake:     make(chan struct{}, 1),

		reconnected: make(chan struct{}, 1),
	}
	_, streams := cfg.Client.(Streamer)
	w.polling = !streams
	w.pollCtx, w.endPolls = context.WithCancel(context.Background())
	return w
}

// Run reads until ctx ends. It returns an error only where a request has failed
// Retry.Attempts times in a row. It can run once.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	if w.run != nil {
		w.mu.Unlock()
		return errors.New("watcher runs already")
	}
	w.run, w.end = ctx, cancel
	for _, f := range w.requests {
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

// Follow replaces the set of requests. Those that stay go on undisturbed; new ones
// are sent at once.
func (w *Watcher) Follow(requests []Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep, changed := make(map[Request]bool, len(requests)), false
	for _, q := range requests {
		keep[q] = true
	}
	for q, f := range w.requests {
		if !keep[q] {
			changed = changed || canStream(q)
			f.stop()
			w.failures.forget(f)
			delete(w.requests, q)
		}
	}
	free := w.fillStream()
	for _, q := range requests {
		if w.requests[q] != nil {
			continue
		}
		f := &followed{request: q}
		if canStream(q) {
			f.overLimit = free <= 0
			changed = changed || !f.overLimit
			free--
		}
		w.requests[q] = f
		if !w.streams(f) {
			w.start(f)
		}
	}
	w.logOverflow(-free)
	if changed {
		w.resubscribe.Notify()
	}
	w.updateRotation()
	w.notify()
}

// updateRotation sets rotating: there are more long-polls than the limiter allows at once, so
// that each may wait only for a share of the time. Callers hold mu.
func (w *Watcher) updateRotation() {
	if rotate := w.polled() > w.polls.size(); rotate != w.rotating {
		w.rotating = rotate
		w.endPolls()
		w.pollCtx, w.endPolls = context.WithCancel(context.Background())
	}
}

// polled is the number of requests that use long-polls. Callers hold mu.
func (w *Watcher) polled() int {
	n := 0
	for _, f := range w.requests {
		if !w.streams(f) {
			n++
		}
	}
	return n
}

// Next waits for a frame. It returns an error when ctx or Run has ended.
func (w *Watcher) Next(ctx context.Context) (Frame, error) {
	for {
		frame, wait, err := w.nextFrame()
		if err != nil || len(frame.Results) > 0 {
			return frame, err
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-w.wake:
		case <-due:
		case <-ctx.Done():
			return Frame{}, ctx.Err()
		}
	}
}

// Pump sends frames until ctx or Run has ended. While nobody receives, changes are
// coalesced.
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

// nextFrame is a frame, if one is due; else the time until Next returns the results at
// hand without those that have not come.
func (w *Watcher) nextFrame() (Frame, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return Frame{}, 0, w.err
	}
	dirty, open := 0, false
	for _, f := range w.requests {
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
	for q, f := range w.requests {
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

// Failing is the last error of each followed request that has no answer now.
func (w *Watcher) Failing() map[Request]error {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[Request]error{}
	for q, f := range w.requests {
		if f.failure != nil {
			out[q] = f.failure
		}
	}
	return out
}

// Failure is a request without an answer, for people.
type Failure struct {
	Query string `json:"query"`
	Error string `json:"error"`
}

// Failures is Failing as a sorted list.
func Failures(failing map[Request]error) []Failure {
	out := []Failure{}
	for q, err := range failing {
		out = append(out, Failure{q.String(), err.Error()})
	}
	slices.SortFunc(out, func(a, b Failure) int { return strings.Compare(a.Query, b.Query) })
	return out
}

// start starts a followed request. Callers hold mu.
func (w *Watcher) start(f *followed) {
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

// giveUp ends the Watcher: Next and Run return the error.
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
