package handlers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/proc"
)

// Input is what a handler gets.
type Input struct {
	Index uint64 // of the query's result; of an event watch it stands for the newest event
	Data  []byte // JSON lines, each with its newline: one, or one for each change
}

// Handler handles a change. One goroutine calls it. A nil error means that the change is
// delivered; after any other error it is retried. Handle must end soon after ctx.
type Handler interface {
	Handle(ctx context.Context, in Input) error
}

// Causes of the end of a handler's context.
var (
	errTimeout    = errors.New("timed out")
	errSuperseded = errors.New("there is something newer")
)

// ExitError is the end of a script that was not 0.
type ExitError struct {
	Code int // or 128 + signal
}

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

const (
	defaultKillTimeout = 5 * time.Second
	defaultHTTPTimeout = 10 * time.Second
	// maxHandlerOutput is how many bytes of a script's output are logged.
	maxHandlerOutput = 4096
)

// script runs a program below a guard: none of its processes outlives us, or its run.
type script struct {
	argv        []string
	env         []string
	killTimeout time.Duration
	capture     *slog.Logger // where its output goes; nil: to our own stdout and stderr
	guards      *proc.Pool

	mu    sync.Mutex
	child *proc.Child // while it runs
}

func (s *script) Handle(ctx context.Context, in Input) error {
	run := proc.Spec{Argv: s.argv, Stdout: os.Stdout, Stderr: os.Stderr}
	run.Env = append(s.env[:len(s.env):len(s.env)], "CONSUL_INDEX="+strconv.FormatUint(in.Index, 10))
	stdin, stdinWriter, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start handler: %w", err)
	}
	defer stdinWriter.Close()
	run.Stdin = stdin
	output := func() {}
	if s.capture != nil {
		if output, err = s.captureOutput(&run); err != nil {
			stdin.Close()
			return err
		}
	}
	child, err := s.guards.Start(run)
	stdin.Close()
	if s.capture != nil {
		run.Stdout.Close()
	}
	defer output()
	if err != nil {
		return fmt.Errorf("start handler: %w", err)
	}
	s.set(child)
	defer s.set(nil)
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = stdinWriter.Write(in.Data) // a handler need not read it
		stdinWriter.Close()
	}()
	code, stopped, err := child.Await(ctx, s.killTimeout)
	if stopped && code != 0 && err == nil {
		err = fmt.Errorf("handler stopped: %w", context.Cause(ctx))
	}
	stdinWriter.Close() // ends the write below, if the handler left some input unread
	<-written
	if err == nil && code != 0 {
		err = &ExitError{code}
	}
	return err
}

// captureOutput logs the last bytes of the script's output.
func (s *script) captureOutput(run *proc.Spec) (done func(), err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start handler: %w", err)
	}
	run.Stdout, run.Stderr = to, to
	read := make(chan []byte, 1)
	go func() { read <- lastBytes(from, maxHandlerOutput) }()
	return func() {
		defer from.Close()
		if out := bytes.TrimSpace(<-read); len(out) > 0 {
			s.capture.Info("watch handler output", "output", string(out))
		}
	}, nil
}

// lastBytes reads r to its end and returns the last n bytes.
func lastBytes(r io.Reader, n int) []byte {
	var kept []byte
	buf := make([]byte, n)
	for {
		m, err := r.Read(buf)
		kept = append(kept, buf[:m]...)
		if over := len(kept) - n; over > 0 {
			kept = append(kept[:0], kept[over:]...)
		}
		if err != nil {
			return kept
		}
	}
}

func (s *script) set(c *proc.Child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child = c
}

// signal passes a signal to the running program.
func (s *script) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil {
		_ = s.child.Pass(sig) // it may just have ended
	}
}

// HTTP is a handler that gets a change by an HTTP request.
type HTTP struct {
	Path          string              `conf:"path"` // a URL
	Method        string              `conf:"method"`
	Timeout       time.Duration       `conf:"timeout"` // 0: 10 s
	Header        map[string][]string `conf:"header"`
	TLSSkipVerify bool                `conf:"tls_skip_verify"`
}

func (h *HTTP) check() error {
	u, err := url.Parse(h.Path)
	switch {
	case h.Path == "":
		return errors.New("Requires 'path' to be set")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("path of the HTTP handler is %q: want a URL such as http://127.0.0.1:8000/changed", h.Path)
	case h.Timeout < 0:
		return errors.New("timeout of the HTTP handler is below zero")
	}
	return nil
}

func (h *HTTP) method() string {
	if h.Method == "" {
		return http.MethodPost
	}
	return h.Method
}

// httpHandler is the Handler of an HTTP.
type httpHandler struct {
	spec   *HTTP
	client *http.Client
}

func newHTTPHandler(h *HTTP) *httpHandler {
	timeout := h.Timeout
	if timeout == 0 {
		timeout = defaultHTTPTimeout
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute}
	if h.TLSSkipVerify {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // as configured
	}
	return &httpHandler{h, &http.Client{Timeout: timeout, Transport: transport}}
}

func (p *httpHandler) Handle(ctx context.Context, in Input) error {
	req, err := http.NewRequestWithContext(ctx, p.spec.method(), p.spec.Path, bytes.NewReader(in.Data))
	if err != nil {
		return fmt.Errorf("make the request to the handler: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Consul-Index", strconv.FormatUint(in.Index, 10))
	for name, values := range p.spec.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxHandlerOutput))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%s %s: %s: %s", p.spec.method(), p.spec.Path, resp.Status, bytes.TrimSpace(text))
	}
	return nil
}
