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
)

// The gap between two requests of one query: small after a change, so that the
// next one is seen at once, and growing while answers come back early with
// nothing new in them, as from a server that cannot block.
const (
	minGap = 10 * time.Millisecond
	maxGap = 250 * time.Millisecond
)

// More queries than slots take turns, and a long-poll lasts only its share of a
// cycle. The cycle bounds how late a change is seen; what it has for each query
// bounds how many requests that costs, whatever their number: 330 a second.
const (
	minCycle      = 250 * time.Millisecond
	cyclePerQuery = 3 * time.Millisecond
)

// maxUnreachable bounds the delay between attempts while the agent itself cannot
// be reached: trying costs nobody anything, and a file should not stay old for
// the rest of a minute once the agent is back.
const maxUnreachable = 5 * time.Second

// slack is what an answer may take beyond the time that it was asked to block.
const slack = 15 * time.Second

// follower is one followed query. The fields below the line belong to the
// Watcher's mutex, those above to the goroutine in follow.
type follower struct {
	query   Request
	cancel  context.CancelFunc // set before the goroutine starts
	index   uint64             // block until above this; 0: answer at once
	gap     time.Duration
	sent    time.Time // when the last request was sent
	recheck bool      // ask the leader, consistently: the last answer was doubtful

	result   Result
	hash     [sha256.Size]byte
	answered bool  // result stands
	dirty    bool  // result was not handed out yet
	failure  error // of the last request, if it failed

	streamHash   string // what a subscription calls result
	refused      bool   // a subscription answers it by an error
	unstreamable bool   // a subscription cannot answer it
	overLimit    bool   // the subscription has no room for it
}

// clone is a copy of f that nobody works on.
func (f *follower) clone() *follower {
	return &follower{query: f.query, result: f.result, hash: f.hash, answered: f.answered, dirty: f.dirty, unstreamable: f.unstreamable}
}

func (f *follower) stop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// answer is what one request brought.
type answer struct {
	body []byte // nil: absent
	meta client.Meta
}

// follow asks until ctx ends.
func (w *Watcher) follow(ctx context.Context, f *follower) {
	defer w.failures.forget(f) // also what it said after Follow had dropped it
	for failures := 0; ; {
		if !sleep(ctx, f.gap-time.Since(f.sent)) {
			return
		}
		a, turned, err := w.ask(ctx, f)
		if ctx.Err() != nil {
			return
		}
		if turned {
			continue
		}
		var again time.Duration
		if err == nil {
			again, err = w.accept(f, a)
		}
		if err == nil {
			failures = 0
			if !sleep(ctx, again) {
				return
			}
			continue
		}
		failures++
		f.index = 0 // the server may have begun anew, and would block for a higher index for ever
		if !w.failed(ctx, f, failures, err) {
			return
		}
	}
}

// ask sends one request when there is a slot for it. turned means that it was
// broken off to ask again with another wait.
func (w *Watcher) ask(ctx context.Context, f *follower) (a answer, turned bool, err error) {
	blocks := f.index > 0
	pool := &w.asks
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
	crowd := context.Background()
	o := w.options(f)
	if blocks {
		o.Index = f.index
		o.Wait, crowd = w.wait()
		limit = o.Wait + o.Wait/16
	}
	reqCtx, cancel := context.WithTimeout(ctx, limit+slack)
	defer cancel()
	defer context.AfterFunc(crowd, cancel)()

	f.sent = time.Now()
	var body []byte
	a.meta, err = w.cfg.Client.Get(reqCtx, f.query.Path, o, &body)
	switch {
	case err == nil:
		a.body = body
		if body == nil {
			a.body = []byte{}
		}
	case crowd.Err() != nil && reqCtx.Err() != nil:
		return a, true, nil
	case isKV(f.query) && client.IsStatus(err, http.StatusNotFound):
		err = nil
	case isEventLog(f.query) && client.IsStatus(err, http.StatusNotFound):
		err = api.Errorf(http.StatusNotFound, "this agent has no durable events: it is none of muster's")
	}
	if err == nil && o.Stale && a.meta.LastContact > w.cfg.MaxStale {
		o.Stale, o.MaxStale, o.Index, o.Wait = false, 0, 0, 0
		return w.askLeader(reqCtx, f, o)
	}
	return a, false, err
}

// askLeader asks once more, of the leader, because a stale answer was too old.
func (w *Watcher) askLeader(ctx context.Context, f *follower, o *client.Options) (a answer, turned bool, err error) {
	var body []byte
	a.meta, err = w.cfg.Client.Get(ctx, f.query.Path, o, &body)
	if err == nil {
		a.body = append([]byte{}, body...)
	} else if isKV(f.query) && client.IsStatus(err, http.StatusNotFound) {
		err = nil
	}
	return a, false, err
}

func (w *Watcher) options(f *follower) *client.Options {
	params, err := url.ParseQuery(f.query.Params)
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

// wait is how long a long-poll should block, and the context that ends when
// that answer is no longer right.
func (w *Watcher) wait() (time.Duration, context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.rotating {
		return w.cfg.BlockWait, w.pollCtx
	}
	n := time.Duration(w.polled())
	cycle := max(minCycle, n*cyclePerQuery)
	return min(w.cfg.BlockWait, cycle*time.Duration(w.polls.size())/n), w.pollCtx
}

// accept takes an answer in. again is how long to wait before the next request.
func (w *Watcher) accept(f *follower, a answer) (again time.Duration, err error) {
	hash := sha256.Sum256(a.body)
	same := f.answered && hash == f.hash
	var result Result
	if !same {
		if result, err = resultOf(f.query, a.body, a.meta.Index); err != nil {
			return 0, err
		}
		switch f.doubts(result, a.meta) {
		case unsure:
			f.recheck, f.index = true, 0
			return 0, nil
		case unconfirmed:
			f.recheck = true
			return 0, errDoubtful
		}
	}
	f.recheck = false
	f.pace(same)
	if a.meta.Index < f.index && !isEvents(f.query) {
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

// doubt is what an answer that takes most or all away is met with.
type doubt int

const (
	none        doubt = iota
	unsure            // to be asked for again, of the leader
	unconfirmed       // it was asked for again, and no leader stands behind it
)

func (f *follower) doubts(now Result, m client.Meta) doubt {
	first := !f.answered && now.Empty && m.Index > 0 && !m.KnownLeader
	switch {
	case isEvents(f.query), !first && !(f.answered && suspicious(f.result, now)):
		return none
	case !f.recheck:
		return unsure
	case !m.KnownLeader:
		return unconfirmed
	}
	return none
}

// pace sets the gap before the next request.
func (f *follower) pace(same bool) {
	if !same || time.Since(f.sent) > maxGap {
		f.gap = minGap
		return
	}
	f.gap = min(2*f.gap, maxGap)
}

// store stores a result for the next frame.
func (w *Watcher) store(f *follower, r Result, hash [sha256.Size]byte, same bool) {
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

// failed notes a failure and waits before the next attempt. False: stop asking.
func (w *Watcher) failed(ctx context.Context, f *follower, failures int, err error) bool {
	w.mu.Lock()
	f.failure = err
	w.mu.Unlock()
	w.notify()
	return w.pause(ctx, f, failures, err)
}

// pause waits before the next attempt after so many failures in a row. False:
// stop asking.
func (w *Watcher) pause(ctx context.Context, f *follower, failures int, err error) bool {
	if n := w.cfg.Retry.Attempts; n > 0 && failures >= n {
		w.giveUp(f.query, failures, err)
		return false
	}
	delay := w.cfg.Retry.delay(failures - 1)
	if kind(err) == unreachable {
		delay = min(delay, max(w.cfg.Retry.Backoff, maxUnreachable))
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

// delay is the pause after n failures before the one that just happened.
func (r Retry) delay(n int) time.Duration {
	d := r.Backoff
	for ; n > 0 && d < r.MaxBackoff; n-- {
		d *= 2
	}
	return min(d, r.MaxBackoff)
}

// sleep waits; false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// kind is what a failure is called when it is spoken of: one word for all that
// keeps us from the agent, else the agent's own words.
func kind(err error) string {
	var status *api.StatusError
	if errors.As(err, &status) {
		return fmt.Sprintf("%d %s", status.Code, status.Text)
	}
	if errors.Is(err, errDoubtful) {
		return err.Error()
	}
	return unreachable
}
