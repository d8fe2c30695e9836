// Package status serves what a tool says of itself: /status as JSON, /metrics as
// Prometheus reads it.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
)

const timeout = 10 * time.Second

// Serve serves both until stop is called, if there is an address to do it on:
// host:port, unix:///path or a path. The values are asked for at each request.
func Serve(addr string, log *slog.Logger, status func() any, metrics func() string) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	kind, at := network(addr)
	if kind == "unix" {
		removeDeadSocket(at)
	}
	ln, err := net.Listen(kind, at)
	if err != nil {
		return nil, cli.Exit(cli.ExitConfig, fmt.Errorf("serve the status on %s: %w", addr, err))
	}
	srv := &http.Server{
		Handler: handler(status, metrics), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: timeout, MaxHeaderBytes: 16 << 10,
	}
	log.Info("serving status", "address", ln.Addr().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the status is not served any more", "error", err)
		}
	}()
	return func() {
		_ = srv.Close()
		<-done
	}, nil
}

// network reads an address.
func network(addr string) (kind, at string) {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		return "unix", path
	}
	if strings.HasPrefix(addr, "/") || strings.HasPrefix(addr, "./") {
		return "unix", addr
	}
	return "tcp", addr
}

// removeDeadSocket removes a socket that nobody listens on any more.
func removeDeadSocket(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path)
	}
}

// Client asks a tool that runs; the string is what stands before the path.
func Client(addr string) (*http.Client, string) {
	kind, at := network(addr)
	if kind == "tcp" {
		return &http.Client{Timeout: timeout}, "http://" + at
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, kind, at)
	}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial}}, "http://tool"
}

func handler(status func() any, metrics func() string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(status())
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(w, metrics())
	})
	return mux
}
