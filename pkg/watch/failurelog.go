package watch

import (
	"log/slog"
	"sync"
	"time"
)

// unreachable is the kind of every failure that keeps us from the agent itself.
const unreachable = "unreachable"

// failureLog keeps what was said about failing requests, so that it is said once
// when a kind of failure begins and once when it is over, however many queries
// it hits, and wakes those that wait to try again when one of them gets through.
type failureLog struct {
	log *slog.Logger

	mu     sync.Mutex
	kinds  map[string]*episode
	kindOf map[*follower]string
	news   chan struct{} // closed when it is worth trying again
}

type episode struct {
	failing int // followers
	since   time.Time
}

func newFailureLog(log *slog.Logger) *failureLog {
	return &failureLog{log: log, kinds: map[string]*episode{}, kindOf: map[*follower]string{}, news: make(chan struct{})}
}

// failed notes a failure; the channel is closed when it seems to be over.
func (o *failureLog) failed(f *follower, err error, retry time.Duration) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := kind(err)
	was, failing := o.kindOf[f]
	if failing && was == k {
		return o.news
	}
	if failing {
		o.remove(f, was)
		if was == unreachable {
			o.tryAgain()
		}
	}
	e := o.kinds[k]
	if e == nil {
		e = &episode{since: time.Now()}
		o.kinds[k] = e
		args := []any{"query", f.query.String(), "error", err}
		if retry > 0 { // else the server tells by itself
			args = append(args, "retry_in", retry)
		}
		o.log.Warn("cannot get data, keeping what there is and trying again", args...)
	}
	e.failing++
	o.kindOf[f] = k
	return o.news
}

// answered notes that a follower which had failed has its answer.
func (o *failureLog) answered(f *follower) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, ok := o.kindOf[f]
	if !ok {
		return
	}
	e := o.kinds[k]
	o.remove(f, k)
	o.tryAgain()
	if e.failing == 0 {
		o.log.Info("got data again", "query", f.query.String(), "after", time.Since(e.since).Round(time.Millisecond))
	}
}

// forget drops a follower that is followed no more.
func (o *failureLog) forget(f *follower) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k, ok := o.kindOf[f]; ok {
		o.remove(f, k)
	}
}

func (o *failureLog) tryAgain() {
	close(o.news)
	o.news = make(chan struct{})
}

// remove takes a follower out of its episode.
func (o *failureLog) remove(f *follower, k string) {
	e := o.kinds[k]
	delete(o.kindOf, f)
	e.failing--
	if e.failing == 0 {
		delete(o.kinds, k)
	}
}
