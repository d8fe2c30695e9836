package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// maxSharedBody limits a shared answer, in bytes. For a longer one each reader sends
// its own request.
const maxSharedBody = 8 << 20

var errSharedBody = errors.New("the answer is too long to be shared")

// sharedReads are the blocking reads that a client agent waits for at a server: one for
// all its clients with equal reads.
type sharedReads struct {
	mu     sync.Mutex
	byKey  map[string]*sharedRead
	number uint64 // of the newest request
}

// sharedRead is one request to a server. Its first reader starts its goroutine; the
// last one to leave ends it and waits for its end.
type sharedRead struct {
	waiters   int         // guarded by sharedReads.mu
	abandoned bool        // its last reader left before the answer; likewise
	number    uint64      // a higher one was started later
	next      *sharedRead // for readers for whom this answer may be too old; guarded by sharedReads.mu
	cancel    context.CancelFunc
	began     time.Time
	done      chan struct{} // closed when answer and err are set
	answer    *recorded     // nil: it cannot be shared
	err       error
}

// coalesces says whether a read may share a request. A consistent read may not: the
// leader must be confirmed after the read began.
func (rq *request) coalesces() bool {
	return rq.index > 0 && rq.r.Method == http.MethodGet && rq.route.headers != plain && rq.mode != consistent
}

// sharedReadKey is equal for reads that may share a request: reads that differ only in
// how long they wait.
func (rq *request) sharedReadKey() string {
	values := make([]string, 0, 4)
	for _, name := range []string{api.HeaderToken, "Authorization", "Cache-Control"} {
		values = append(values, rq.r.Header.Get(name))
	}
	key := rq.query("")
	for _, v := range append(values, strconv.FormatBool(acceptsGzip(rq.r.Header)), rq.r.URL.Path) {
		key += "\x00" + strconv.Quote(v)
	}
	return key
}

// query is the request's query string with another wait.
func (rq *request) query(wait string) string {
	had, given := rq.values["wait"]
	rq.values.Set("wait", wait)
	defer func() {
		if rq.values.Del("wait"); given {
			rq.values["wait"] = had
		}
	}()
	return rq.values.Encode()
}

// toServer forwards a request of a client agent to a server. A blocking read shares a
// request with equal ones, and waits until that is answered or its own time is over.
//
// A server may have answered before a reader joined the request. Such an answer may
// be older than what the reader has written or seen before it asked. So readers that
// joined after the start share one more request, which starts after all of them and
// is answered at once.
func (a *API) toServer(rq *request) error {
	if rq.forwards == 0 {
		return api.ErrNoServers
	}
	if !rq.coalesces() {
		return rq.forward()
	}
	over := time.NewTimer(rq.wait())
	defer over.Stop()
	earlier := a.sharedReads.newest() // requests up to this one may be answered already
	key := rq.sharedReadKey()
	for s := a.join(rq, key, nil); ; s = a.join(rq, key, s) {
		select {
		case <-s.done:
			a.sharedReads.leave(key, s)
			switch {
			case s.err != nil:
				return s.err
			case s.answer == nil:
				return rq.forward()
			case s.timedOut(rq.index) && rq.wait() > 0:
				continue // the server's maximum wait is over, the reader's wait is not
			case s.number <= earlier && rq.mode != stale && rq.ctx.Err() == nil:
				continue
			}
			s.answer.writeTo(rq)
			return nil
		case <-over.C:
			a.sharedReads.leave(key, s)
			rq.shortenWait()
			return rq.forward()
		case <-rq.ctx.Done():
			a.sharedReads.leave(key, s)
			return rq.ctx.Err()
		}
	}
}

// forward sends the request to a server, and answers with its answer.
func (rq *request) forward() error {
	return rq.api.cfg.Forward.ToServer(rq.w, rq.outgoing(), rq.route.safe(rq.r.Method), rq.forwards-1)
}

// join adds a reader to the request of a key, and starts that if there is none.
// after is the request that the reader had before: all readers of that share the next one.
func (a *API) join(rq *request, key string, after *sharedRead) *sharedRead {
	a.sharedReads.mu.Lock()
	defer a.sharedReads.mu.Unlock()
	s := a.sharedReads.byKey[key]
	if after != nil && after.next != nil && !after.next.abandoned {
		s = after.next
	}
	if s == nil {
		s = a.start(rq, key)
	}
	s.waiters++
	if after != nil {
		after.next = s
	}
	return s
}

// start is called with the lock held.
func (a *API) start(rq *request, key string) *sharedRead {
	ctx, cancel := context.WithCancel(context.WithoutCancel(rq.ctx))
	r := rq.outgoing().Clone(ctx)
	r.URL.RawQuery = rq.query(a.cfg.MaxQueryTime.String())
	a.sharedReads.number++
	s := &sharedRead{number: a.sharedReads.number, cancel: cancel, began: time.Now(), done: make(chan struct{})}
	if a.sharedReads.byKey == nil {
		a.sharedReads.byKey = map[string]*sharedRead{}
	}
	a.sharedReads.byKey[key] = s
	go a.request(key, s, r, rq.forwards-1)
	return s
}

// request sends the request. If the answer breaks midway, each reader sends its own.
func (a *API) request(key string, s *sharedRead, r *http.Request, forwards int) {
	defer close(s.done)
	defer a.sharedReads.remove(key, s)
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			a.cfg.Logger.Error("forwarding a blocking read panicked", "path", r.URL.Path, "panic", p)
		}
	}()
	got := &recorded{header: http.Header{}, status: http.StatusOK}
	if s.err = a.cfg.Forward.ToServer(got, r, true, forwards); s.err == nil && !got.truncated {
		s.answer = got
	}
}

func (rs *sharedReads) newest() uint64 {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.number
}

// remove keeps later readers from joining a request.
func (rs *sharedReads) remove(key string, s *sharedRead) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byKey[key] == s {
		delete(rs.byKey, key)
	}
}

func (rs *sharedReads) leave(key string, s *sharedRead) {
	rs.mu.Lock()
	s.waiters--
	last := s.waiters == 0
	if last {
		select {
		case <-s.done:
		default:
			s.abandoned = true
		}
	}
	if last && rs.byKey[key] == s {
		delete(rs.byKey, key)
	}
	rs.mu.Unlock()
	if last {
		s.cancel()
		<-s.done
	}
}

// timedOut says whether the server's wait ended without a change.
func (s *sharedRead) timedOut(index uint64) bool {
	return s.answer.status == http.StatusOK && time.Since(s.began) > time.Second &&
		s.answer.header.Get(api.HeaderIndex) == strconv.FormatUint(index, 10)
}

// recorded is an answer kept in memory.
type recorded struct {
	header    http.Header
	status    int
	body      bytes.Buffer
	truncated bool // it was longer than maxSharedBody
}

func (r *recorded) Header() http.Header    { return r.header }
func (r *recorded) WriteHeader(status int) { r.status = status }
func (r *recorded) Flush()                 {}

func (r *recorded) Write(p []byte) (int, error) {
	if r.body.Len()+len(p) > maxSharedBody {
		r.truncated = true
		return 0, errSharedBody
	}
	return r.body.Write(p)
}

func (r *recorded) writeTo(rq *request) {
	h := rq.w.Header()
	for name, values := range r.header {
		h[name] = values
	}
	rq.wrote = true
	rq.w.WriteHeader(r.status)
	_, _ = rq.w.Write(r.body.Bytes()) // fails only where the client is gone
}
