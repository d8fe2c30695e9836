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
	// maxStreams limits the open requests of one agent at a server. With the library's
	// 250, 600 blocking queries would dial hundreds of connections.
	maxStreams = 100_000

	readHeaderTimeout = 10 * time.Second

	// drainTimeout is how long requests may run after their context has ended; then
	// their connections are closed. Connections without requests are closed sooner: the
	// library by itself keeps each open for a second.
	drainTimeout  = 2 * time.Second
	drainInterval = 5 * time.Millisecond
	flushTime     = 20 * time.Millisecond // to send the last bytes of an answer
)

// ServeHTTP serves the connections of ln until ctx ends. Every request's context ends
// with ctx, so that blocking queries are answered at once. ServeHTTP returns when all
// requests are answered, or after a short drain. It closes ln.
func ServeHTTP(ctx context.Context, ln net.Listener, handler http.Handler, logger *slog.Logger) error {
	// WriteTimeout would end blocking queries. Without IdleTimeout, ReadTimeout would
	// be used for it.
	active := activeConns{conns: map[net.Conn]struct{}{}}
	srv := &http.Server{
		Handler:           handler,
		ConnState:         active.track,
		Protocols:         http2Only(),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       serverIdle,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          errorLog(logger),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      2 * pingAfter, // later than the dialling side, which so saves most of these
			PingTimeout:          pingTimeout,
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
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	drained := make(chan error, 1)
	go func() { drained <- srv.Shutdown(drain) }() // sends GOAWAY
	active.awaitNone(drain)
	if n := active.count(); n > 0 {
		logger.Warn("requests did not end in time, closing their connections", "connections", n, "waited", drainTimeout)
	}
	cancel()
	<-drained
	_ = srv.Close()
	<-served
	return nil
}

// activeConns are the connections with requests, or with answers that are not sent yet.
type activeConns struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// track is a server's ConnState hook.
func (b *activeConns) track(c net.Conn, state http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state == http.StateActive {
		b.conns[c] = struct{}{}
	} else {
		delete(b.conns, c)
	}
}

func (b *activeConns) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// awaitNone waits until there has been none for flushTime.
func (b *activeConns) awaitNone(ctx context.Context) {
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	for idle := time.Duration(0); idle < flushTime; idle += drainInterval {
		if b.count() > 0 {
			idle = 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// errorLog logs net/http's errors of single connections for debugging only: their cause
// is outside.
func errorLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
