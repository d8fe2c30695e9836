package mux

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxStreams is how many requests one agent may have open at a server. The
	// library's 250 would make 600 long polls dial hundreds of connections.
	maxStreams = 100_000

	readHeaderTimeout = 10 * time.Second

	// drainTime is how long requests have to end once their context has; after
	// it their connections are closed. Where none is under way any more, they are
	// closed sooner: the library by itself leaves every one open for a second.
	drainTime  = 2 * time.Second
	drainCheck = 5 * time.Millisecond
	flushTime  = 20 * time.Millisecond // from an answer's last byte until it is out
)

// ServeHTTP serves the connections of ln until ctx ends. Every request's context
// ends with ctx, so that long polls are answered at once; ServeHTTP returns
// when all requests have been, or after a short drain. It closes ln.
func ServeHTTP(ctx context.Context, ln net.Listener, handler http.Handler, logger *slog.Logger) error {
	// No WriteTimeout, it would kill long polls. IdleTimeout is set because
	// ReadTimeout would take its place.
	carrying := busy{conns: map[net.Conn]struct{}{}}
	srv := &http.Server{
		Handler:           handler,
		ConnState:         carrying.note,
		Protocols:         http2Only(),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       serverIdle,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          errorLog(logger),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      2 * pingAfter, // who dials pings first, so mostly this side need not
			PingTimeout:          pingWait,
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	select {
	case err := <-served:
		_ = srv.Close()
		if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("serve HTTP/2 on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	drained := make(chan error, 1)
	go func() { drained <- srv.Shutdown(drain) }() // tells the other ends
	carrying.awaitNone(drain)
	if n := carrying.count(); n > 0 {
		logger.Warn("requests did not end in time, closing their connections", "connections", n, "waited", drainTime)
	}
	cancel()
	<-drained
	_ = srv.Close()
	<-served
	return nil
}

// busy counts the connections that carry requests, or answers not yet written.
type busy struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// note is a server's ConnState hook.
func (b *busy) note(c net.Conn, state http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state == http.StateActive {
		b.conns[c] = struct{}{}
	} else {
		delete(b.conns, c)
	}
}

func (b *busy) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// awaitNone waits until nothing has been carried for the flush time.
func (b *busy) awaitNone(ctx context.Context) {
	tick := time.NewTicker(drainCheck)
	defer tick.Stop()
	for quiet := time.Duration(0); quiet < flushTime; quiet += drainCheck {
		if b.count() > 0 {
			quiet = 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// errorLog takes what net/http says about single connections; that is noise
// from outside unless somebody is looking for it.
func errorLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
