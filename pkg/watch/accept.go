package watch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// errUnconfirmed is the failure of an answer that no leader has confirmed.
var errUnconfirmed = errors.New("the answer takes everything or most of it away and no leader has confirmed it")

// confirmTimeout is how long a leader may take to confirm answers.
const confirmTimeout = 20 * time.Second

// suspicious reports whether an answer removes everything, or more than half: a leader
// must confirm it.
func suspicious(old, now Result) bool {
	return now.Items < old.Items && (now.Empty || 2*now.Items < old.Items)
}

// frameResult is one decoded result of a frame.
type frameResult struct {
	f            *followed
	result       Result
	hash         [sha256.Size]byte
	streamHash   string
	failure      error
	unstreamable bool // the stream cannot answer it
}

// acceptFrame stores a frame as a whole or not at all, so that its results are of one
// index.
func (w *Watcher) acceptFrame(ctx context.Context, s *subscription, frame api.Frame) error {
	results := make([]frameResult, 0, len(frame.Results))
	var doubtful []*frameResult
	for _, r := range frame.Results {
		f := s.requests[r.ID]
		if f == nil {
			return fmt.Errorf("subscription: a result for %q, which was not asked for", r.ID)
		}
		results = append(results, decodeResult(f, r))
	}
	w.mu.Lock()
	for i := range results {
		a := &results[i]
		if a.failure == nil && a.f.answered && suspicious(a.f.result, a.result) {
			doubtful = append(doubtful, a)
		}
	}
	w.mu.Unlock()
	if err := w.confirmAll(ctx, doubtful); err != nil {
		return err
	}
	recovered := w.storeFrame(s, frame.Index, results)
	w.logRefused(results, recovered)
	return nil
}

// logRefused logs the requests that the server refuses, and those that it no longer refuses.
// It would refuse them again, so one refusal uses up all attempts.
func (w *Watcher) logRefused(results []frameResult, recovered []*followed) {
	for _, a := range results {
		if a.failure == nil || a.unstreamable {
			continue
		}
		w.failures.failed(a.f, a.failure, 0)
		if w.cfg.Retry.Attempts > 0 {
			w.giveUp(a.f.request, 1, a.failure)
		}
	}
	for _, f := range recovered {
		w.failures.answered(f)
	}
}

func decodeResult(f *followed, r api.SubscribedResult) frameResult {
	a := frameResult{f: f, streamHash: r.Hash}
	body := []byte(r.Body)
	switch {
	case r.Status == http.StatusOK:
		if body == nil {
			body = []byte("null")
		}
	case r.Status == http.StatusNotFound && isKV(f.request):
		body = nil
	default:
		a.failure = api.AnswerError(r.Status, []byte(r.Error))
		a.unstreamable = r.Status == http.StatusNotFound
		return a
	}
	a.hash = sha256.Sum256(body)
	a.result, a.failure = resultOf(f.request, body, r.Index)
	return a
}

func resultOf(q Request, body []byte, index uint64) (Result, error) {
	value, err := Decode(q, body)
	if err != nil {
		return Result{}, err
	}
	return Result{Value: value, Index: index, Empty: isEmpty(body), Items: items(value)}, nil
}

// storeFrame stores the results of a frame. recovered were refused before and have an
// answer now.
func (w *Watcher) storeFrame(s *subscription, index uint64, results []frameResult) (recovered []*followed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.notify()
	failed := map[*followed]bool{}
	w.index = index
	for _, a := range results {
		f := a.f
		switch {
		case a.unstreamable:
			f.unstreamable = true
			if f.cancel == nil && w.requests[f.request] == f {
				w.start(f)
				w.updateRotation()
			}
			continue
		case a.failure != nil:
			f.failure = a.failure
			f.refused = true
			failed[f] = true
			continue
		}
		if f.refused {
			recovered = append(recovered, f)
		}
		f.refused = false
		f.streamHash = a.streamHash
		if f.answered && f.hash == a.hash {
			continue
		}
		f.result, f.hash, f.answered, f.dirty = a.result, a.hash, true, true
		if w.dirtyAt.IsZero() {
			w.dirtyAt = time.Now()
		}
	}
	for _, f := range s.requests {
		if !f.refused && !f.unstreamable && !failed[f] {
			f.failure = nil
		}
	}
	return recovered
}

// confirmAll asks the leader to confirm suspicious answers.
func (w *Watcher) confirmAll(ctx context.Context, doubtful []*frameResult) error {
	if len(doubtful) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(doubtful))
	for i, a := range doubtful {
		if !w.reads.acquire(ctx) {
			errs[i] = errUnconfirmed
			break
		}
		wg.Go(func() {
			errs[i] = w.confirm(ctx, a.f)
			w.reads.release(client.IsStatus(errs[i], http.StatusTooManyRequests))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *Watcher) confirm(ctx context.Context, f *followed) error {
	o := w.options(f)
	o.Consistent, o.Stale = true, false
	var body []byte
	meta, err := w.cfg.Client.Get(ctx, f.request.Path, o, &body)
	switch {
	case isKV(f.request) && client.IsStatus(err, http.StatusNotFound):
		body = nil
	case err != nil:
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	case !meta.KnownLeader:
		return errUnconfirmed
	}
	now, err := resultOf(f.request, body, meta.Index)
	if err != nil {
		return err
	}
	w.mu.Lock()
	old := f.result
	w.mu.Unlock()
	if !suspicious(old, now) {
		return errUnconfirmed
	}
	return nil
}

// items is the number of things in a decoded answer.
func items(value any) int {
	switch v := value.(type) {
	case nil:
		return 0
	case []*api.CheckServiceNode:
		return len(v)
	case []*api.HealthCheck:
		return len(v)
	case []*api.ServiceNode:
		return len(v)
	case []*api.Node:
		return len(v)
	case []*api.KVPair:
		return len(v)
	case []*api.Event:
		return len(v)
	case []string:
		return len(v)
	case map[string][]string:
		return len(v)
	case *api.KVPair:
		return one(v != nil)
	case *api.NodeServices:
		return one(v != nil)
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return 1
}

func one(there bool) int {
	if there {
		return 1
	}
	return 0
}
