package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// Streamer is what a subscription needs beside Getter. A client without it only
// polls.
type Streamer interface {
	Stream(ctx context.Context, method, path string, o *client.Options, in any) (*http.Response, error)
}

const (
	// streamTimeout is how long a stream may be silent. The server sends a keep-alive
	// every 10 s.
	streamTimeout = 25 * time.Second
	// firstFrameTimeout is how long the first frame may take: an agent waits 7 s for a
	// leader before it gives up.
	firstFrameTimeout = 12 * time.Second
	// streamRetry is when a subscription is tried again while stale polls replace it.
	streamRetry = 15 * time.Second
	// maxFrame bounds one frame of a stream, in bytes.
	maxFrame = 256 << 20
	// minStreamTime is how long a stream must last for its end not to be a failure.
	minStreamTime = time.Second
)

// Reasons for the end of a stream that are no failure of the request.
var (
	errSetChanged     = errors.New("other requests are followed now")
	errSilent         = errors.New("POST " + api.SubscribePath + ": no sign of life")
	errNoSubscription = errors.New("the agent has no subscriptions")
)

// canStream reports whether a subscription can carry a request: a read of the
// replicated state of the agent's own datacenter whose answer is the same at every
// agent.
func canStream(q Request) bool {
	switch {
	case strings.HasPrefix(q.Path, "/v1/kv/"), strings.HasPrefix(q.Path, "/v1/health/"):
	case q.Path == "/v1/catalog/nodes", q.Path == "/v1/catalog/services",
		strings.HasPrefix(q.Path, "/v1/catalog/node/"), strings.HasPrefix(q.Path, "/v1/catalog/service/"):
	default:
		return false
	}
	if q.Params == "" {
		return true
	}
	params, err := url.ParseQuery(q.Params)
	return err == nil && !params.Has("dc") && !params.Has("near")
}

// streams reports whether the subscription carries a followed request. Callers hold mu.
func (w *Watcher) streams(f *followed) bool {
	return !w.polling && !f.unstreamable && !f.overLimit && canStream(f.request)
}

// fillStream moves requests above the stream's limit to the stream while there is space.
// It returns how many more the stream can carry. Callers hold mu.
func (w *Watcher) fillStream() (free int) {
	free = w.cfg.MaxStreamed
	for q, f := range w.requests {
		if canStream(q) && !f.unstreamable && !f.overLimit {
			free--
		}
	}
	moved := false
	for q, f := range w.requests {
		if f.overLimit && free > 0 {
			f.stop()
			now := f.clone()
			w.requests[q] = now
			if w.polling {
				w.start(now)
			}
			free--
			moved = true
		}
	}
	if moved {
		w.resubscribe.Notify()
	}
	return free
}

// logOverflow logs once that the stream cannot carry n requests.
func (w *Watcher) logOverflow(n int) {
	if n <= 0 || w.overflow || w.polling {
		return
	}
	w.overflow = true
	w.cfg.Logger.Warn("more look-ups than one subscription carries: the others are asked by long-polls, take turns, and their changes are seen later",
		"subscription", w.cfg.MaxStreamed, "others", n)
}

// subscription is the set of requests that one stream carries.
type subscription struct {
	requests map[string]*followed
	body     api.Subscription
	changed  <-chan struct{} // closed when the set changes
}

// subscription is the set as it is now.
func (w *Watcher) subscription() *subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &subscription{requests: map[string]*followed{}, changed: w.resubscribe.Changed()}
	s.body.Index = w.index
	for _, f := range w.requests {
		if f.unstreamable || f.overLimit || !canStream(f.request) {
			continue
		}
		id := strconv.Itoa(len(s.requests))
		s.requests[id] = f
		path := (&url.URL{Path: f.request.Path, RawQuery: f.request.Params}).RequestURI()
		s.body.Queries = append(s.body.Queries, api.SubscribedQuery{ID: id, Path: path, Hash: f.streamHash})
	}
	return s
}

// subscribe keeps a stream open until ctx ends: it subscribes again when the set changes
// and when a stream breaks. While long-polls replace it, because the agent has no
// subscriptions, it tries again after each reconnect.
func (w *Watcher) subscribe(ctx context.Context) {
	entry := &followed{} // stands for the stream in the failure log
	defer w.failures.forget(entry)
	for failures := 0; ctx.Err() == nil; {
		s := w.subscription()
		if len(s.requests) == 0 {
			await(ctx, s.changed)
			continue
		}
		entry.request = s.first()
		began := time.Now()
		frames, err := w.stream(ctx, s, func() { w.failures.answered(entry) })
		if frames > 0 {
			failures = 0
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errSetChanged):
			continue
		case errors.Is(err, errNoSubscription):
			w.failures.answered(entry)
			w.fallBack()
			failures = 0
			await(ctx, w.reconnected)
			continue
		case w.cfg.MaxStale > 0 && noLeader(err): // any server may answer, but only polls
			w.failures.forget(entry)
			w.fallBack()
			failures = 0
			awaitFor(ctx, w.reconnected, streamRetry)
			continue
		case w.isPolling(): // the polls log what is wrong
			await(ctx, w.reconnected)
			continue
		case frames > 0 && time.Since(began) > minStreamTime:
			continue // such as a change of the leader: nothing is lost
		}
		failures++
		w.streamFailed(s, err)
		if !w.pause(ctx, entry, failures, err) {
			return
		}
	}
}

// stream reads frames until it fails; the error is never nil.
func (w *Watcher) stream(ctx context.Context, s *subscription, alive func()) (frames int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(firstFrameTimeout, func() { cancel(errSilent) })
	defer dead.Stop()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.changed:
			cancel(errSetChanged)
		case <-stop:
		}
	}()
	resp, err := w.cfg.Client.(Streamer).Stream(ctx, http.MethodPost, api.SubscribePath, nil, s.body)
	if err != nil {
		return 0, causeOf(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, causeOf(ctx, statusError(resp))
	}
	w.resumeStream()
	in := &limited{r: resp.Body}
	for dec := json.NewDecoder(in); ; frames++ {
		var f api.Frame
		in.left = maxFrame
		if err := dec.Decode(&f); err != nil {
			return frames, causeOf(ctx, fmt.Errorf("POST %s: the stream broke: %w", api.SubscribePath, err))
		}
		if f.Error != "" {
			return frames, api.AnswerError(http.StatusInternalServerError, []byte(f.Error))
		}
		dead.Stop()
		if err := w.acceptFrame(ctx, s, f); err != nil {
			return frames, causeOf(ctx, err)
		}
		dead.Reset(streamTimeout)
		alive()
	}
}

// causeOf is the cause of ctx, if it was canceled with one, else err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// statusError is the error of a status other than 200. Where the path is unknown or blocked, a
// followed path is blocked, or the subscription is too large, polls replace it.
func statusError(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusRequestEntityTooLarge:
		return errNoSubscription
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return api.AnswerError(resp.StatusCode, text)
}

// limited bounds what is read of one frame.
type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("a frame is larger than %d MiB", maxFrame>>20)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// first is the request that stands for all of them in messages.
func (s *subscription) first() Request {
	var all []Request
	for _, f := range s.requests {
		all = append(all, f.request)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].String() < all[j].String() })
	return all[0]
}

func await(ctx context.Context, c <-chan struct{}) {
	select {
	case <-c:
	case <-ctx.Done():
	}
}

func awaitFor(ctx context.Context, c <-chan struct{}, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	await(ctx, c)
}

// noLeader reports whether the agent answers, but cannot serve what needs a leader.
func noLeader(err error) bool {
	var status *api.StatusError
	return errors.As(err, &status) && status.Code >= http.StatusInternalServerError
}

func (w *Watcher) isPolling() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.polling
}

// fallBack makes all requests long-polls.
func (w *Watcher) fallBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.polling {
		return
	}
	w.cfg.Logger.Debug("the agent has no subscriptions, asking by long-polls")
	w.polling, w.index = true, 0
	for _, f := range w.requests {
		if f.cancel == nil {
			w.start(f)
		}
	}
	w.updateRotation()
}

// resumeStream ends the long-polls of what a stream now carries. The goroutine of a
// stopped request may still write to it, so the map gets a copy.
func (w *Watcher) resumeStream() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.polling {
		return
	}
	w.cfg.Logger.Debug("the agent has subscriptions")
	w.polling = false
	for q, f := range w.requests {
		if w.streams(f) {
			f.stop()
			w.requests[q] = f.clone()
		}
	}
	w.updateRotation()
	w.resubscribe.Notify()
}

// streamFailed notes a failure of every request on the stream. It resets the index: the
// next server may have been restarted, and the hashes tell what differs.
func (w *Watcher) streamFailed(s *subscription, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index = 0
	for _, f := range s.requests {
		f.failure = err
	}
	w.notify()
}
