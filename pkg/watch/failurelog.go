package watch

import (
	"log/slog"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/broadcast"
)

// unreachable is the kind of every failure to reach the agent.
const unreachable = "unreachable"

// failureLog logs each kind of failure once when it begins and once when it is over,
// however many requests fail. When one of them succeeds it wakes the others, which
// wait to try again.
type failureLog struct {
	log *slog.Logger

	mu     sync.Mutex
	kinds  map[string]*episode
	kindOf map[*followed]string
	retry  broadcast.Signal // an attempt may succeed now
}

type episode struct {
	failing int // requests
	since   time.Time
}

func newFailureLog(log *slog.Logger) *failureLog {
	return &failureLog{log: log, kinds: map[string]*episode{}, kindOf: map[*followed]string{}}
}

// failed notes a failure. The channel is closed when it seems to be over.
func (l *failureLog) failed(f *followed, err error, delay time.Duration) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := kind(err)
	was, failing := l.kindOf[f]
	if failing && was == k {
		return l.retry.Changed()
	}
	if failing {
		l.remove(f, was)
		if was == unreachable {
			l.retry.Notify()
		}
	}
	e := l.kinds[k]
	if e == nil {
		e = &episode{since: time.Now()}
		l.kinds[k] = e
		args := []any{"query", f.request.String(), "error", err}
		if delay > 0 { // else the server will send an answer
			args = append(args, "retry_in", delay)
		}
		l.log.Warn("cannot get data, keeping what there is and trying again", args...)
	}
	e.failing++
	l.kindOf[f] = k
	return l.retry.Changed()
}

// answered notes that a followed request has an answer after a failure.
func (l *failureLog) answered(f *followed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.kindOf[f]
	if !ok {
		return
	}
	e := l.kinds[k]
	l.remove(f, k)
	l.retry.Notify()
	if e.failing == 0 {
		l.log.Info("got data again", "query", f.request.String(), "after", time.Since(e.since).Round(time.Millisecond))
	}
}

// forget drops a followed request.
func (l *failureLog) forget(f *followed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, ok := l.kindOf[f]; ok {
		l.remove(f, k)
	}
}

// remove removes a followed request from its episode.
func (l *failureLog) remove(f *followed, k string) {
	e := l.kinds[k]
	delete(l.kindOf, f)
	e.failing--
	if e.failing == 0 {
		delete(l.kinds, k)
	}
}
