package mux

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// maxStreams is how many requests one agent may have open at a server. The
	// library's 250 would make 600 long polls dial hundreds of connections.
	maxStreams = 100_000

	readHeaderTimeout = 10 * time.Second

	// drainTime is how long requests have to end once their context has; after
	// it their connections are closed.
	drainTime = 2 * time.Second
)

// ServeHTTP serves the connections of ln until ctx ends. Every request's context
// ends with ctx, so that long polls are answered at once; ServeHTTP returns
// when all requests have been, or after a short drain. It closes ln.
func ServeHTTP(ctx context.Context, ln net.Listener, handler http.Handler, logger *slog.Logger) error {
	// No WriteTimeout, it would kill long polls. IdleTimeout is set because
	// ReadTimeout would take its place.
	srv := &http.Server{
		Handler:           handler,
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
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		logger.Warn("requests did not end in time, closing their connections", "waited", drainTime)
		_ = srv.Close()
	}
	<-served
	return nil
}

// errorLog takes what net/http says about single connections; that is noise
// from outside unless somebody is looking for it.
func errorLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
