// Package loopback carries HTTP requests to a handler of the same process: what the
// agent needs of its own API it asks like everybody else, without a socket.
//
// What it promises:
//   - An answer streams: what the handler has written can be read before it has
//     returned, and the request's body may be read while it is written.
//   - The handler's context ends with the request's, and when the answer's body is
//     closed. RoundTrip's error and Close come after the handler has returned, so that
//     its goroutine is the caller's.
//   - A handler that panics costs that one request.
package loopback

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport is a way to a handler. As with any http.RoundTripper, who gets an answer
// closes its body.
type Transport struct {
	Handler http.Handler // set before the first request
}

// RoundTrip has the handler answer r, and returns once that has begun. The answer's
// ContentLength is -1 where the handler does not say it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := serverSide(r.Clone(ctx))
	x := &exchange{header: http.Header{}, begun: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	x.body, x.out = io.Pipe()
	go x.serve(t.Handler, in)
	<-x.begun
	if x.err != nil || r.Context().Err() != nil {
		_ = x.Close()
		if r.Context().Err() != nil {
			return nil, context.Cause(r.Context())
		}
		return nil, x.err
	}
	return &http.Response{
		Status:        strconv.Itoa(x.status) + " " + http.StatusText(x.status),
		StatusCode:    x.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        x.sent,
		Body:          x,
		ContentLength: contentLength(x.sent),
		Request:       r,
	}, nil
}

// serverSide makes of a request what a server makes of it.
func serverSide(r *http.Request) *http.Request {
	r.RequestURI = r.URL.RequestURI()
	r.RemoteAddr = "127.0.0.1:0"
	switch {
	case r.Body == nil:
		r.Body = http.NoBody
	case r.Body != http.NoBody && r.ContentLength == 0:
		r.ContentLength = -1 // a client need not know it
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	return r
}

func contentLength(h http.Header) int64 {
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// exchange is one request and its answer: the handler's http.ResponseWriter and the
// caller's response body.
type exchange struct {
	cancel context.CancelFunc
	out    *io.PipeWriter
	body   *io.PipeReader
	done   chan struct{} // closed when the handler has returned

	header http.Header // the handler's

	begun  chan struct{} // closed when the rest is settled
	status int
	sent   http.Header // header as it was then
	err    error       // instead of an answer
}

// serve runs the handler. Once the request's context has ended neither end waits for
// the other any more.
func (x *exchange) serve(h http.Handler, r *http.Request) {
	defer close(x.done)
	closeBody := sync.OnceFunc(func() { _ = r.Body.Close() })
	defer closeBody()
	defer x.cancel()
	stop := context.AfterFunc(r.Context(), func() {
		_ = x.out.CloseWithError(context.Cause(r.Context()))
		closeBody()
	})
	defer stop()
	x.end(run(h, x, r))
}

// run turns the handler's panic into an error, and the end of the request: what was
// cut short by it is no whole answer.
func run(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = io.ErrUnexpectedEOF
		default:
			err = fmt.Errorf("the handler of %s %s panicked: %v", r.Method, r.URL.Path, p)
		}
	}()
	h.ServeHTTP(w, r)
	if r.Context().Err() != nil {
		return context.Cause(r.Context())
	}
	return nil
}

// end settles the answer when the handler has returned.
func (x *exchange) end(err error) {
	if x.status == 0 && err != nil {
		x.err = err
		close(x.begun)
	}
	x.WriteHeader(http.StatusOK)
	_ = x.out.CloseWithError(err) // nil is the end of the body
}

// Header is the handler's.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader begins the answer, unless it has begun. Informational answers are not
// passed on.
func (x *exchange) WriteHeader(status int) {
	if x.status != 0 || x.err != nil || status >= 100 && status < 200 {
		return
	}
	x.status, x.sent = status, x.header.Clone()
	close(x.begun)
}

// Write waits until the caller has read p.
func (x *exchange) Write(p []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	return x.out.Write(p)
}

// Flush begins the answer; what is written is passed on at once anyway.
func (x *exchange) Flush() { x.WriteHeader(http.StatusOK) }

// Read is the caller's.
func (x *exchange) Read(p []byte) (int, error) { return x.body.Read(p) }

// Close ends the handler, and returns when it has.
func (x *exchange) Close() error {
	x.cancel()
	_ = x.body.Close()
	<-x.done
	return nil
}
