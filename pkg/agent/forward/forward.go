// Package forward sends a request to the agent that can answer it, over the server
// port: from a client agent to a server, from a server to the leader. The request
// travels unchanged (method, path, parameters, token, body), and the answer is
// streamed back.
//
// What it promises:
//   - A request is repeated only if no server can have acted on it, or if the caller
//     says that it is safe. A write whose connection broke after it was sent fails
//     with api.ErrUnknownWrite. A repeated request has its whole body.
//   - The agents of a cluster spread over its servers; each keeps to one.
//   - A request ends at the other side when the caller goes away.
//   - An error means that nothing was written to the caller; nil means that an answer
//     was, whatever its status.
//
// The caller knows who leads, and decides how often to ask the leader again. It sets
// GetBody of a request that has a body: each attempt sends one.
package forward

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/retry"
)

const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 500 * time.Millisecond
	bufferSize = 32 << 10 // bytes
)

// Config of a Router.
type Config struct {
	Transport   http.RoundTripper // HTTP/2 to a server's port
	Servers     func() []string   // addresses (ip:port) of the living servers, never self
	HoldTimeout time.Duration     // how long ToServer tries (rpc_hold_timeout)
	Logger      *slog.Logger
}

// Router forwards requests. It is safe for concurrent use and owns no goroutine.
type Router struct {
	cfg       Config
	seed      maphash.Seed // of this router's order of servers
	preferred atomic.Pointer[preference]
}

// preference is immutable: an order of the known servers that begins with the one
// that answered last. Reads through one server are monotonic.
type preference struct{ order, known []string }

// New makes a router.
func New(cfg Config) *Router {
	return &Router{cfg: cfg, seed: maphash.MakeSeed()}
}

// ToServer sends r to any server, which may forward it that many more times, and
// writes the answer. While no server can be reached it tries again, until HoldTimeout.
// A safe request changes nothing (RFC 9110, 9.2.1), so it is repeated even if it may
// have arrived.
func (f *Router) ToServer(w http.ResponseWriter, r *http.Request, safe bool, forwards int) error {
	deadline := time.Now().Add(f.cfg.HoldTimeout)
	backoff := retry.Backoff{First: minBackoff, Max: maxBackoff}
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
				return unknownWrite(addr, err)
			}
			last = fmt.Errorf("forward to server %s: %w", addr, err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return f.noServers(r, last)
		}
		if retry.Sleep(r.Context(), min(backoff.Next(), left)) != nil {
			return r.Context().Err()
		}
	}
}

func (f *Router) noServers(r *http.Request, last error) error {
	if last == nil {
		return api.ErrNoServers
	}
	f.cfg.Logger.Warn("no server answers", "path", r.URL.Path, "error", last)
	return fmt.Errorf("%w: %v", api.ErrNoServers, last)
}

// candidates returns the servers in this router's order: first the one that answered
// last. known is what gossip knows, for answered.
//
// The order is rendezvous hashing, with a seed for each router: agents spread evenly over
// the servers, and a new server takes an equal share from each of the others. The server
// that answered last stays first until the set of servers changes; a server that did
// not answer is tried first again from then on.
func (f *Router) candidates() (order, known []string) {
	known = f.cfg.Servers()
	if p := f.preferred.Load(); p != nil && slices.Equal(p.known, known) {
		return p.order, known
	}
	order = slices.Clone(known)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Compare(maphash.String(f.seed, a), maphash.String(f.seed, b))
	})
	return order, known
}

// answered makes a candidate that has answered the first.
func (f *Router) answered(addr string, order, known []string) {
	if p := f.preferred.Load(); p != nil && p.order[0] == addr && slices.Equal(p.known, known) {
		return
	}
	preferred := []string{addr}
	for _, other := range order {
		if other != addr {
			preferred = append(preferred, other)
		}
	}
	f.preferred.Store(&preference{preferred, known})
}

// ToLeader sends r once to the leader at addr, which never forwards it, and writes
// the answer. It returns api.ErrNoLeader if certainly nothing was done: the address
// could not be reached or is not the leader, or r is safe (see ToServer).
func (f *Router) ToLeader(w http.ResponseWriter, r *http.Request, safe bool, addr string) error {
	resp, sent, err := f.send(r, addr, api.TargetLeader, 0)
	refused := false
	if err == nil {
		refused, err = noLeader(resp)
	}
	switch {
	case err == nil && !refused:
		return f.answer(w, resp)
	case refused:
		return api.ErrNoLeader
	case r.Context().Err() != nil:
		return r.Context().Err()
	case sent && !safe:
		return unknownWrite(addr, err)
	}
	f.cfg.Logger.Debug("leader not reached", "addr", addr, "error", err)
	return api.ErrNoLeader
}

func unknownWrite(addr string, err error) error {
	return fmt.Errorf("%w: the connection to %s broke after the request was sent (%v); read before you write again", api.ErrUnknownWrite, addr, err)
}

// send sends r once. sent says whether any of it may have reached the other side.
func (f *Router) send(r *http.Request, addr, target string, forwards int) (resp *http.Response, sent bool, err error) {
	var wrote atomic.Bool
	// WroteHeaders is called once any of the request may have been written, and before
	// RoundTrip fails. GotConn is not called for the connections of mux.Transport.
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	out := r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host, out.Host = "https", addr, addr
	out.Header.Del("Connection")
	address(out.Header, target, forwards)
	out.Body = nil
	if r.ContentLength != 0 {
		if out.Body, err = r.GetBody(); err != nil {
			return nil, false, fmt.Errorf("read the request's body again: %w", err)
		}
	}
	resp, err = f.cfg.Transport.RoundTrip(out)
	return resp, wrote.Load(), err
}

// address sets the headers that say who is addressed and may forward the request.
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

// noLeader recognises the one answer that proves that nothing was proposed. The body
// of any other answer stays readable.
func noLeader(resp *http.Response) (bool, error) {
	if resp.StatusCode != http.StatusInternalServerError || resp.ContentLength != int64(len(api.TextNoLeader)) {
		return false, nil
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return string(body) == api.TextNoLeader, err
}

// answer copies the response to w as it arrives. If that fails midway, it breaks the
// caller's connection: a part of an answer must not look complete.
func (f *Router) answer(w http.ResponseWriter, resp *http.Response) error {
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	if resp.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	out, size := io.Writer(struct{ io.Writer }{w}), min(resp.ContentLength+1, bufferSize)
	if resp.ContentLength < 0 {
		out, size = flusher{w, http.NewResponseController(w)}, bufferSize // a stream: each piece counts
	}
	if _, err := io.CopyBuffer(out, resp.Body, make([]byte, size)); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// flusher flushes after each write.
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
