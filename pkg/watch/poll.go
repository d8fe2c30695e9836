package watch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
)

// The gap is the least time between two sends of one request. It is small after a
// change, so that the next one is seen at once, and grows while answers come early
// without a change, as from a server that cannot block.
const (
	minGap = 10 * time.Millisecond
	maxGap = 250 * time.Millisecond
)

// Where there are more long-polls than slots they rotate: each waits only for its share
// of a cycle. The cycle bounds how late a change is seen; cyclePerRequest bounds the
// rate of requests, to 330 a second.
const (
	minCycle        = 250 * time.Millisecond
	cyclePerRequest = 3 * time.Millisecond
)

// maxUnreachable bounds the delay between attempts while the agent is unreachable: an
// attempt costs little then, and a file should not stay old for a minute once the
// agent is back.
const maxUnreachable = 5 * time.Second

// slack is how much longer than its wait an answer may take.
const slack = 15 * time.Second

// followed is one followed request. The Watcher's mutex guards the fields from result
// on; those above belong to the goroutine in follow.
type followed struct {
	request Request
	cancel  context.CancelFunc // set before the goroutine starts
	index   uint64             // of the last answer: block until it is above this; 0: do not block
	gap     time.Duration
	sent    time.Time // when the last request was sent
	recheck bool      // read consistently: the last answer was suspicious

	result   Result
	hash     [sha256.Size]byte
	answered bool  // result is valid
	dirty    bool  // Next has not returned result yet
	failure  error // of the last request, if it failed

	streamHash   string // of result, in the subscription
	refused      bool   // the subscription answers it with an error
	unstreamable bool   // the subscription cannot answer it
	overLimit    bool   // the subscription is full
}

// clone is a copy of f that no goroutine uses.
func (f *followed) clone() *followed {
	return &followed{request: f.request, result: f.result, hash: f.hash, answered: f.answered, dirty: f.dirty, unstreamable: f.unstreamable}
}

func (f *followed) stop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// answer is the answer to one request.
type answer struct {
	body []byte // nil: absent
	meta client.Meta
}

// follow polls until ctx ends.
func (w *Watcher) follow(ctx context.Context, f *followed) {
	defer w.failures.forget(f) // also where it failed after Follow had dropped it
	for failures := 0; ; {
		if retry.Sleep(ctx, f.gap-time.Since(f.sent)) != nil {
			return
		}
		a, restart, err := w.ask(ctx, f)
		if ctx.Err() != nil {
			return
		}
		if restart {
			continue
		}
		var pause time.Duration
		if err == nil {
			pause, err = w.accept(f, a)
		}
		if err == nil {
			failures = 0
			if retry.Sleep(ctx, pause) != nil {
				return
			}
			continue
		}
		failures++
		f.index = 0 // a server that was restarted may never reach the old one
		if !w.failed(ctx, f, failures, err) {
			return
		}
	}
}

// ask sends one request when there is a slot for it. restart means that it was
// canceled, to be sent again with another wait.
func (w *Watcher) ask(ctx context.Context, f *followed) (a answer, restart bool, err error) {
	blocks := f.index > 0
	pool := &w.reads
	if blocks {
		pool = &w.polls
	}
	if !pool.acquire(ctx) {
		return a, false, ctx.Err()
	}
	defer func() {
		if pool.release(client.IsStatus(err, http.StatusTooManyRequests)) {
			w.mu.Lock()
			w.updateRotation()
			w.mu.Unlock()
		}
	}()

	var limit time.Duration
	rotation := context.Background()
	o := w.options(f)
	if blocks {
		o.Index = f.index
		o.Wait, rotation = w.wait()
		limit = o.Wait + o.Wait/16
	}
	reqCtx, cancel := context.WithTimeout(ctx, limit+slack)
	defer cancel()
	defer context.AfterFunc(rotation, cancel)()

	f.sent = time.Now()
	var body []byte
	a.meta, err = w.cfg.Client.Get(reqCtx, f.request.Path, o, &body)
	switch {
	case err == nil:
		a.body = body
		if body == nil {
			a.body = []byte{}
		}
	case rotation.Err() != nil && reqCtx.Err() != nil:
		return a, true, nil
	case isKV(f.request) && client.IsStatus(err, http.StatusNotFound):
		err = nil
	case isEventLog(f.request) && client.IsStatus(err, http.StatusNotFound):
		err = api.Errorf(http.StatusNotFound, "this agent has no durable events: it is none of muster's")
	}
	if err == nil && o.Stale && a.meta.LastContact > w.cfg.MaxStale {
		o.Stale, o.MaxStale, o.Index, o.Wait = false, 0, 0, 0
		return w.askLeader(reqCtx, f, o)
	}
	return a, false, err
}

// askLeader reads once more, at the leader: the stale answer was too old.
func (w *Watcher) askLeader(ctx context.Context, f *followed, o *client.Options) (a answer, restart bool, err error) {
	var body []byte
	a.meta, err = w.cfg.Client.Get(ctx, f.request.Path, o, &body)
	if err == nil {
		a.body = append([]byte{}, body...)
	} else if isKV(f.request) && client.IsStatus(err, http.StatusNotFound) {
		err = nil
	}
	return a, false, err
}

func (w *Watcher) options(f *followed) *client.Options {
	params, err := url.ParseQuery(f.request.Params)
	if err != nil {
		params = nil // cannot be: Params come from url.Values
	}
	o := &client.Options{Params: params}
	switch {
	case f.recheck:
		o.Consistent = true
	case w.cfg.MaxStale > 0:
		o.Stale = true
	}
	return o
}

// wait is how long a long-poll blocks, and the context that ends when that time
// changes.
func (w *Watcher) wait() (time.Duration, context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.rotating {
		return w.cfg.BlockWait, w.pollCtx
	}
	n := time.Duration(w.polled())
	cycle := max(minCycle, n*cyclePerRequest)
	return min(w.cfg.BlockWait, cycle*time.Duration(w.polls.size())/n), w.pollCtx
}

// accept stores an answer. pause is the time before the next request.
func (w *Watcher) accept(f *followed, a answer) (pause time.Duration, err error) {
	hash := sha256.Sum256(a.body)
	same := f.answered && hash == f.hash
	var result Result
	if !same {
		if result, err = resultOf(f.request, a.body, a.meta.Index); err != nil {
			return 0, err
		}
		switch f.verify(result, a.meta) {
		case readAgain:
			f.recheck, f.index = true, 0
			return 0, nil
		case unconfirmed:
			f.recheck = true
			return 0, errUnconfirmed
		}
	}
	f.recheck = false
	f.pace(same)
	if a.meta.Index < f.index && !isEvents(f.request) {
		f.index = 0
	} else {
		f.index = a.meta.Index
	}
	w.store(f, result, hash, same)
	if a.meta.Index == 0 {
		return w.cfg.PollEvery, nil
	}
	return 0, nil
}

// verification says what to do about a suspicious answer.
type verification int

const (
	accepted    verification = iota
	readAgain                // read it again, at the leader
	unconfirmed              // it was read again, and no leader confirmed it
)

func (f *followed) verify(now Result, m client.Meta) verification {
	first := !f.answered && now.Empty && m.Index > 0 && !m.KnownLeader
	switch {
	case isEvents(f.request), !first && !(f.answered && suspicious(f.result, now)):
		return accepted
	case !f.recheck:
		return readAgain
	case !m.KnownLeader:
		return unconfirmed
	}
	return accepted
}

// pace sets the gap before the next request.
func (f *followed) pace(same bool) {
	if !same || time.Since(f.sent) > maxGap {
		f.gap = minGap
		return
	}
	f.gap = min(2*f.gap, maxGap)
}

// store keeps a result for the next frame.
func (w *Watcher) store(f *followed, r Result, hash [sha256.Size]byte, same bool) {
	w.mu.Lock()
	recovered := f.failure != nil
	reconnected := recovered && kind(f.failure) == unreachable
	f.failure = nil
	if !same {
		f.result, f.hash, f.answered, f.dirty, f.streamHash = r, hash, true, true, ""
		if w.dirtyAt.IsZero() {
			w.dirtyAt = time.Now()
		}
	}
	w.mu.Unlock()
	if recovered {
		w.failures.answered(f)
	}
	if reconnected { // perhaps by another agent
		select {
		case w.reconnected <- struct{}{}:
		default:
		}
	}
	w.notify()
}

// failed notes a failure and waits before the next attempt. False: stop.
func (w *Watcher) failed(ctx context.Context, f *followed, failures int, err error) bool {
	w.mu.Lock()
	f.failure = err
	w.mu.Unlock()
	w.notify()
	return w.pause(ctx, f, failures, err)
}

// pause waits before the next attempt. failures are those in a row. False: stop.
func (w *Watcher) pause(ctx context.Context, f *followed, failures int, err error) bool {
	if n := w.cfg.Retry.Attempts; n > 0 && failures >= n {
		w.giveUp(f.request, failures, err)
		return false
	}
	r := w.cfg.Retry
	delay := min(r.MaxBackoff, retry.Exponential(r.Backoff, r.MaxBackoff, failures-1))
	if kind(err) == unreachable {
		delay = min(delay, max(r.Backoff, maxUnreachable))
	}
	recovered := w.failures.failed(f, err, delay)
	t := time.NewTimer(delay + rand.N(delay/5+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-recovered:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// kind is the kind of a failure: unreachable, or the agent's own words.
func kind(err error) string {
	var status *api.StatusError
	if errors.As(err, &status) {
		return fmt.Sprintf("%d %s", status.Code, status.Text)
	}
	if errors.Is(err, errUnconfirmed) {
		return err.Error()
	}
	return unreachable
}
