// Package forward sends a request on to the agent that can answer it, over the
// servers' own port: from a client agent to a server, from a server to the
// leader. It carries the request unchanged (method, path, parameters, token,
// body) and the answer back as it comes.
//
// What it promises:
//   - A request is sent again only while nothing of it can have been acted on.
//     A write whose connection broke after it was sent ends with
//     api.ErrUnknownWrite; a read may be asked again. What is sent again is sent
//     whole, its body too.
//   - The agents of a cluster spread over its servers; each stays with one.
//   - When the caller goes away, the request ends at the other side too.
//   - An error means that nothing was written to the caller; nil that an answer
//     was, whatever its status.
//
// Who is leader, and how often to ask again, is the caller's business.
package forward

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

const (
	retryFirst = 20 * time.Millisecond
	retryMost  = 500 * time.Millisecond
	bufferSize = 32 << 10
)

// Config of a Router.
type Config struct {
	Transport   http.RoundTripper // HTTP/2 to a server's port
	Servers     func() []string   // addresses (ip:port) of the living servers, never self
	HoldTimeout time.Duration     // how long ToServer goes on trying (rpc_hold_timeout)
	Logger      *slog.Logger
}

// Router forwards requests. It is safe for concurrent use and owns no goroutine.
type Router struct {
	cfg     Config
	seed    maphash.Seed // of this router's order of servers
	prefer  atomic.Pointer[preference]
	buffers sync.Pool
}

// preference is an order of servers that begins with who answered last, so that
// reads through it stay monotonic, and what gossip said of them. Nobody changes it.
type preference struct{ order, known []string }

// New makes a router.
func New(cfg Config) *Router {
	return &Router{cfg: cfg, seed: maphash.MakeSeed(), buffers: sync.Pool{New: func() any {
		b := make([]byte, bufferSize)
		return &b
	}}}
}

// ToServer sends r to any server, which may forward it so many times, and writes its
// answer. A safe request changes nothing (RFC 9110, 9.2.1): it is sent again though
// it may have arrived. While no server can be
// reached it tries again, for HoldTimeout at most.
func (f *Router) ToServer(w http.ResponseWriter, r *http.Request, safe bool, forwards int) error {
	ctx, cancel := context.WithTimeout(r.Context(), f.cfg.HoldTimeout)
	defer cancel()
	pause := retryFirst
	r, err := replayable(r)
	if err != nil {
		return err
	}
	for {
		last := error(nil)
		order, known := f.candidates()
		for _, addr := range order {
			resp, sent, err := f.send(r, addr, api.TargetServer, forwards)
			if err == nil {
				f.answered(addr, order, known)
				return f.answer(w, resp)
			}
			if r.Context().Err() != nil {
				return r.Context().Err()
			}
			if sent && !safe {
				return unknown(addr, err)
			}
			last = fmt.Errorf("forward to server %s: %w", addr, err)
		}
		select {
		case <-ctx.Done():
			return f.exhausted(r, last)
		case <-time.After(pause):
			pause = min(2*pause, retryMost)
		}
	}
}

// replayable gives a request whose body can be sent any number of times. One that
// cannot yet is read in; the caller bounds it.
func replayable(r *http.Request) (*http.Request, error) {
	if r.GetBody != nil || r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return r, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the request's body: %w", err)
	}
	r = r.WithContext(r.Context())
	r.ContentLength = int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return r, nil
}

func (f *Router) exhausted(r *http.Request, last error) error {
	if err := r.Context().Err(); err != nil {
		return err
	}
	if last == nil {
		return api.ErrNoServers
	}
	f.cfg.Logger.Warn("no server answers", "path", r.URL.Path, "error", last)
	return fmt.Errorf("%w: %v", api.ErrNoServers, last)
}

// candidates are the servers in this router's own order, the one that answered last
// before the others; known is what gossip says, to be handed to answered.
//
// The order is by a hash of each address under a seed of this router (rendezvous
// hashing), so that the agents of a cluster spread evenly over its servers, and a
// server that comes takes its share from all others while nobody else moves. Who
// answered last stays the first until the set of servers is another: then whoever
// was silent has its turn again.
func (f *Router) candidates() (order, known []string) {
	known = f.cfg.Servers()
	if p := f.prefer.Load(); p != nil && slices.Equal(p.known, known) {
		return p.order, known
	}
	order = slices.Clone(known)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Compare(maphash.String(f.seed, a), maphash.String(f.seed, b))
	})
	return order, known
}

// answered notes that a server of the candidates has answered.
func (f *Router) answered(addr string, order, known []string) {
	if p := f.prefer.Load(); p != nil && p.order[0] == addr && slices.Equal(p.known, known) {
		return
	}
	sticky := []string{addr}
	for _, other := range order {
		if other != addr {
			sticky = append(sticky, other)
		}
	}
	f.prefer.Store(&preference{sticky, known})
}

// ToLeader sends r to the leader at addr, which never forwards it, and writes its
// answer. It does not try again. api.ErrNoLeader is its error when the request was
// certainly not acted on, because the address could not be reached or is no leader.
// safe is as in ToServer.
func (f *Router) ToLeader(w http.ResponseWriter, r *http.Request, safe bool, addr string) error {
	r, err := replayable(r)
	if err != nil {
		return err
	}
	resp, sent, err := f.send(r, addr, api.TargetLeader, 0)
	if err != nil {
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		if !sent || safe {
			f.cfg.Logger.Debug("leader not reached", "addr", addr, "error", err)
			return api.ErrNoLeader
		}
		return unknown(addr, err)
	}
	refused, err := noLeader(resp)
	if err != nil {
		return unknown(addr, err)
	}
	if refused {
		return api.ErrNoLeader
	}
	return f.answer(w, resp)
}

func unknown(addr string, err error) error {
	return fmt.Errorf("%w: the connection to %s broke after the request was sent (%v); read before you write again", api.ErrUnknownWrite, addr, err)
}

// send reports whether the request may have reached the other side.
func (f *Router) send(r *http.Request, addr, target string, forwards int) (resp *http.Response, sent bool, err error) {
	var wrote atomic.Bool
	// Called once anything of the request may be on the wire, and before an error
	// of RoundTrip; GotConn is not called on connections that are kept by hand.
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	out := r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host, out.Host = "https", addr, addr
	out.Header.Del("Connection")
	address(out.Header, target, forwards)
	out.Body = nil
	if r.GetBody != nil && r.ContentLength != 0 {
		if out.Body, err = r.GetBody(); err != nil {
			return nil, false, fmt.Errorf("read the request's body again: %w", err)
		}
	}
	resp, err = f.cfg.Transport.RoundTrip(out)
	return resp, wrote.Load(), err
}

// address says in a request's headers to whom it goes, and what may become of it there.
func address(h http.Header, target string, forwards int) {
	values := []string{target, ""}
	h[api.HeaderTarget] = values[:1:1]
	if target == api.TargetLeader {
		values[1] = "2"
		h[api.HeaderHops] = values[1:]
		delete(h, api.HeaderForwards)
		return
	}
	values[1] = strconv.Itoa(forwards)
	h[api.HeaderForwards] = values[1:]
	delete(h, api.HeaderHops)
}

// noLeader recognises the one answer that proves that nothing was proposed, and
// leaves any other body whole.
func noLeader(resp *http.Response) (bool, error) {
	if resp.StatusCode != http.StatusInternalServerError || resp.ContentLength != int64(len(api.TextNoLeader)) {
		return false, nil
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return string(body) == api.TextNoLeader, err
}

// answer copies the response out as it arrives. One that breaks midway breaks
// the caller's connection, so that half an answer is never taken for a whole.
func (f *Router) answer(w http.ResponseWriter, resp *http.Response) error {
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	if resp.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	out := io.Writer(struct{ io.Writer }{w})
	if resp.ContentLength < 0 {
		out = flusher{w, http.NewResponseController(w)} // a stream: each piece counts
	}
	if _, err := io.CopyBuffer(out, resp.Body, *buf); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// flusher sends on at once what it is given.
type flusher struct {
	w       io.Writer
	control *http.ResponseController
}

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}
