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

// maxFlightBody bounds an answer that is kept for several readers, in bytes. A
// longer one each of them asks for alone.
const maxFlightBody = 8 << 20

var errFlightBody = errors.New("the answer is too long to be shared")

// flights are the blocking reads that a client agent has under way at a server:
// one for all its clients that ask the same.
type flights struct {
	mu     sync.Mutex
	byKey  map[string]*flight
	number uint64 // of the newest flight
}

// flight is one request to a server. Its goroutine is started by the first who
// waits for it; the last to leave ends it, and waits for that.
type flight struct {
	waiters int     // guarded by flights.mu
	givenUp bool    // nobody waited for its answer any more; likewise
	number  uint64  // a higher one began later
	next    *flight // of those for whom this one was not enough; guarded by flights.mu
	cancel  context.CancelFunc
	began   time.Time
	done    chan struct{} // closed once the rest is settled
	answer  *recorded     // nil: there is none that can be shared
	err     error
}

// coalesces tells the reads that may share a flight. A consistent read is not
// one: its leader must be confirmed after it began.
func (rq *request) coalesces() bool {
	return rq.index > 0 && rq.r.Method == http.MethodGet && rq.route.headers != plain && rq.mode != consistent
}

// flightKey is equal for reads that may share a flight: equal in all but how long
// they wait.
func (rq *request) flightKey() string {
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

// query is the request's query with another wait.
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

// toServer sends a request of a client agent on to a server. One that blocks
// waits for a flight, until that has an answer or its own time is over.
//
// A server may have given its answer before a reader came that shares the flight:
// that answer says that there is news, but it may be older than what the reader has
// written or seen elsewhere before it asked. So who came late shares one more
// flight, which begins after all of them and is answered at once.
func (a *API) toServer(rq *request) error {
	if rq.forwards == 0 {
		return api.ErrNoServers
	}
	if !rq.coalesces() {
		return rq.forward()
	}
	over := time.NewTimer(rq.wait())
	defer over.Stop()
	earlier := a.flights.newest() // those up to here may have an answer that is on its way
	key := rq.flightKey()
	for f := a.board(rq, key, nil); ; f = a.board(rq, key, f) {
		select {
		case <-f.done:
			a.flights.leave(key, f)
			switch {
			case f.err != nil:
				return f.err
			case f.answer == nil:
				return rq.forward()
			case f.ranOut(rq.index) && rq.wait() > 0:
				continue // the flight waited as long as a server lets it, the reader has not
			case f.number <= earlier && rq.mode != stale && rq.ctx.Err() == nil:
				continue
			}
			f.answer.writeTo(rq)
			return nil
		case <-over.C:
			a.flights.leave(key, f)
			rq.shortenWait()
			return rq.forward()
		case <-rq.ctx.Done():
			a.flights.leave(key, f)
			return rq.ctx.Err()
		}
	}
}

// forward sends the request to a server, and answers with its answer.
func (rq *request) forward() error {
	return rq.api.cfg.Forward.ToServer(rq.w, rq.outgoing(), rq.route.safe(rq.r.Method), rq.forwards-1)
}

// board joins the flight of a key, or starts it: after another one that which
// follows it, for all who were on that.
func (a *API) board(rq *request, key string, after *flight) *flight {
	a.flights.mu.Lock()
	defer a.flights.mu.Unlock()
	f := a.flights.byKey[key]
	if after != nil && after.next != nil && !after.next.givenUp {
		f = after.next
	}
	if f == nil {
		f = a.start(rq, key)
	}
	f.waiters++
	if after != nil {
		after.next = f
	}
	return f
}

// start is called with the lock held.
func (a *API) start(rq *request, key string) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(rq.ctx))
	r := rq.outgoing().Clone(ctx)
	r.URL.RawQuery = rq.query(a.cfg.MaxQueryTime.String())
	a.flights.number++
	f := &flight{number: a.flights.number, cancel: cancel, began: time.Now(), done: make(chan struct{})}
	if a.flights.byKey == nil {
		a.flights.byKey = map[string]*flight{}
	}
	a.flights.byKey[key] = f
	go a.fly(key, f, r, rq.forwards-1)
	return f
}

// fly asks a server. Whatever ends an answer midway leaves the readers to ask for
// themselves.
func (a *API) fly(key string, f *flight, r *http.Request, forwards int) {
	defer close(f.done)
	defer a.flights.end(key, f)
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			a.cfg.Logger.Error("forwarding a blocking read panicked", "path", r.URL.Path, "panic", p)
		}
	}()
	got := &recorded{header: http.Header{}, status: http.StatusOK}
	if f.err = a.cfg.Forward.ToServer(got, r, true, forwards); f.err == nil && !got.cut {
		f.answer = got
	}
}

func (fs *flights) newest() uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.number
}

// end lets nobody join a flight any more.
func (fs *flights) end(key string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.byKey[key] == f {
		delete(fs.byKey, key)
	}
}

func (fs *flights) leave(key string, f *flight) {
	fs.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last {
		select {
		case <-f.done:
		default:
			f.givenUp = true
		}
	}
	if last && fs.byKey[key] == f {
		delete(fs.byKey, key)
	}
	fs.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

// ranOut tells that the flight came back, after some time, with what its readers
// have already.
func (f *flight) ranOut(index uint64) bool {
	return f.answer.status == http.StatusOK && time.Since(f.began) > time.Second &&
		f.answer.header.Get(api.HeaderIndex) == strconv.FormatUint(index, 10)
}

// recorded is an answer that is kept.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
	cut    bool // it was too long
}

func (r *recorded) Header() http.Header    { return r.header }
func (r *recorded) WriteHeader(status int) { r.status = status }
func (r *recorded) Flush()                 {}

func (r *recorded) Write(p []byte) (int, error) {
	if r.body.Len()+len(p) > maxFlightBody {
		r.cut = true
		return 0, errFlightBody
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
