package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
	"github.com/muster-dev/muster/pkg/tmpl"
)

const statusTimeout = 10 * time.Second

// serveStatus serves /status and /metrics, if there is an address to do it on.
func serveStatus(addr string, log *slog.Logger, status func() tmpl.Status) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	network, at := statusNetwork(addr)
	if network == "unix" {
		removeDeadSocket(at)
	}
	ln, err := net.Listen(network, at)
	if err != nil {
		return nil, cli.Exit(cli.ExitConfig, fmt.Errorf("serve the status on %s: %w", addr, err))
	}
	srv := &http.Server{
		Handler: tmpl.StatusHandler(status), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadTimeout: statusTimeout, WriteTimeout: statusTimeout, IdleTimeout: statusTimeout, MaxHeaderBytes: 16 << 10,
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

// statusNetwork reads host:port, unix:///path or a path.
func statusNetwork(addr string) (network, at string) {
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

// statusClient asks a tmpl that runs.
func statusClient(addr string) (*http.Client, string) {
	network, at := statusNetwork(addr)
	if network == "tcp" {
		return &http.Client{Timeout: statusTimeout}, "http://" + at
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}
	return &http.Client{Timeout: statusTimeout, Transport: &http.Transport{DialContext: dial}}, "http://tmpl"
}
