package watch

import (
	"log/slog"
	"sync"
	"time"
)

// unreachable is the kind of every failure that keeps us from the agent itself.
const unreachable = "unreachable"

// outage keeps what was said about failing requests, so that it is said once
// when a kind of failure begins and once when it is over, however many queries
// it hits, and wakes those that wait to try again when one of them gets through.
type outage struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*episode
	of    map[*follower]string
	news  chan struct{} // closed when it is worth trying again
}

type episode struct {
	failing int // followers
	since   time.Time
}

func newOutage(log *slog.Logger) *outage {
	return &outage{log: log, kinds: map[string]*episode{}, of: map[*follower]string{}, news: make(chan struct{})}
}

// failed notes a failure; the channel is closed when it seems to be over.
func (o *outage) failed(f *follower, err error, retry time.Duration) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := kind(err)
	was, failing := o.of[f]
	if failing && was == k {
		return o.news
	}
	if failing {
		o.leave(f, was)
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
	o.of[f] = k
	return o.news
}

// answered notes that a follower which had failed has its answer.
func (o *outage) answered(f *follower) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, ok := o.of[f]
	if !ok {
		return
	}
	e := o.kinds[k]
	o.leave(f, k)
	o.tryAgain()
	if e.failing == 0 {
		o.log.Info("got data again", "query", f.query.String(), "after", time.Since(e.since).Round(time.Millisecond))
	}
}

// forget drops a follower that is followed no more.
func (o *outage) forget(f *follower) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k, ok := o.of[f]; ok {
		o.leave(f, k)
	}
}

func (o *outage) tryAgain() {
	close(o.news)
	o.news = make(chan struct{})
}

// leave takes a follower out of its episode.
func (o *outage) leave(f *follower, k string) {
	e := o.kinds[k]
	delete(o.of, f)
	e.failing--
	if e.failing == 0 {
		delete(o.kinds, k)
	}
}
