// Package forward sends a request on to the agent that can answer it, over the
// servers' own port: from a client agent to a server, from a server to the
// leader. It carries the request unchanged (method, path, parameters, token,
// body) and the answer back as it comes.
//
// What it promises:
//   - A request is sent again only while nothing of it can have been acted on.
//     A write whose connection broke after it was sent ends with
//     api.ErrUnknownWrite; a read may be asked again.
//   - When the caller goes away, the request ends at the other side too.
//   - An error means that nothing was written to the caller; nil that an answer
//     was, whatever its status.
//
// Who is leader, and how often to ask again, is the caller's business.
package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
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

// ErrNotLeader is ToLeader's error when the request was certainly not acted on,
// because the address could not be reached or is no leader. The caller may look
// for the leader again.
var ErrNotLeader = errors.New(api.ErrNoLeader)

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
	prefer  atomic.Pointer[string] // the server that answered last: reads through it stay monotonic
	buffers sync.Pool
}

// New makes a router.
func New(cfg Config) *Router {
	return &Router{cfg: cfg, buffers: sync.Pool{New: func() any {
		b := make([]byte, bufferSize)
		return &b
	}}}
}

// ToServer sends r to any server and writes its answer. hops is how often the
// request has been forwarded before. While no server can be reached it tries
// again, for HoldTimeout at most.
func (f *Router) ToServer(w http.ResponseWriter, r *http.Request, hops int) error {
	ctx, cancel := context.WithTimeout(r.Context(), f.cfg.HoldTimeout)
	defer cancel()
	pause := retryFirst
	for {
		last := error(nil)
		for _, addr := range f.candidates() {
			resp, sent, err := f.send(r, addr, hops)
			if err == nil {
				f.prefer.Store(&addr)
				return f.answer(w, resp)
			}
			if r.Context().Err() != nil {
				return r.Context().Err()
			}
			if sent && !safe(r) {
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

// RoundTrip sends a read to any server, trying each once, and gives the answer as it
// comes: for streams that this agent follows itself.
func (f *Router) RoundTrip(r *http.Request) (*http.Response, error) {
	err := error(api.Errorf(http.StatusInternalServerError, "%s", api.ErrNoServers))
	for _, addr := range f.candidates() {
		resp, sent, failed := f.send(r, addr, 0)
		if failed == nil {
			f.prefer.Store(&addr)
			return resp, nil
		}
		if err = fmt.Errorf("send to server %s: %w", addr, failed); sent {
			break // the body is gone
		}
	}
	return nil, err
}

func (f *Router) exhausted(r *http.Request, last error) error {
	if err := r.Context().Err(); err != nil {
		return err
	}
	if last == nil {
		return api.Errorf(http.StatusInternalServerError, "%s", api.ErrNoServers)
	}
	f.cfg.Logger.Warn("no server answers", "path", r.URL.Path, "error", last)
	return api.Errorf(http.StatusInternalServerError, "%s: %v", api.ErrNoServers, last)
}

// candidates are the servers, the one that answered last before the others.
func (f *Router) candidates() []string {
	all := f.cfg.Servers()
	p := f.prefer.Load()
	if p == nil {
		return all
	}
	for i, addr := range all {
		if addr == *p {
			out := append([]string{addr}, all[:i]...)
			return append(out, all[i+1:]...)
		}
	}
	return all
}

// ToLeader sends r to the leader at addr and writes its answer. It does not try
// again; see ErrNotLeader.
func (f *Router) ToLeader(w http.ResponseWriter, r *http.Request, addr string, hops int) error {
	resp, sent, err := f.send(r, addr, hops)
	if err != nil {
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		if !sent || safe(r) {
			f.cfg.Logger.Debug("leader not reached", "addr", addr, "error", err)
			return ErrNotLeader
		}
		return unknown(addr, err)
	}
	refused, err := noLeader(resp)
	if err != nil {
		return unknown(addr, err)
	}
	if refused {
		return ErrNotLeader
	}
	return f.answer(w, resp)
}

func unknown(addr string, err error) error {
	return api.Errorf(http.StatusInternalServerError,
		"%s: the connection to %s broke after the request was sent (%v); read before you write again", api.ErrUnknownWrite, addr, err)
}

// safe tells requests that may be sent twice.
func safe(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return r.URL.Path == api.SubscribePath
}

// send reports whether the request may have reached the other side.
func (f *Router) send(r *http.Request, addr string, hops int) (resp *http.Response, sent bool, err error) {
	var wrote atomic.Bool
	// Called once anything of the request may be on the wire, and before an error
	// of RoundTrip; GotConn is not called on connections that are kept by hand.
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	out := r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host, out.Host = "https", addr, addr
	out.Header.Del("Connection")
	out.Header.Set(api.HeaderHops, strconv.Itoa(hops+1))
	if r.ContentLength == 0 {
		out.Body = nil
	} else {
		out.Body = io.NopCloser(r.Body) // a failed dial must not close it
	}
	resp, err = f.cfg.Transport.RoundTrip(out)
	return resp, wrote.Load(), err
}

// noLeader recognises the one answer that proves that nothing was proposed, and
// leaves any other body whole.
func noLeader(resp *http.Response) (bool, error) {
	if resp.StatusCode != http.StatusInternalServerError || resp.ContentLength != int64(len(api.ErrNoLeader)) {
		return false, nil
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return string(body) == api.ErrNoLeader, err
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
