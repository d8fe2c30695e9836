package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/logx"
	"github.com/muster-dev/muster/pkg/proc"
)

// sh is a script handler whose output is logged into the buffer.
func sh(text string) (*script, *bytes.Buffer) {
	var log bytes.Buffer
	return &script{argv: []string{"sh", "-c", text}, env: os.Environ(), killTimeout: 100 * time.Millisecond, capture: logx.New(&log, nil, true), guards: new(proc.Pool)}, &log
}

func TestScript(t *testing.T) {
	s, log := sh(`echo "index $CONSUL_INDEX"; cat; echo err >&2`)
	if err := s.Handle(t.Context(), Input{7, []byte("{}\n")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"output":"index 7\n{}\nerr"`) {
		t.Errorf("logged %s", log.String())
	}
	s, _ = sh("exit 3")
	var exit *ExitError
	if err := s.Handle(t.Context(), Input{}); !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("%v", err)
	}
	s = &script{argv: []string{"no-such-program"}, capture: logx.Discard(), guards: new(proc.Pool)}
	if err := s.Handle(t.Context(), Input{}); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("%v", err)
	}
}

// A handler need not read its input, and may print more than is logged.
func TestScriptLimits(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 4<<20)
	for _, text := range []string{"exit 0", "exec <&-; exit 0", "cat >/dev/null"} {
		s, _ := sh(text)
		if err := s.Handle(t.Context(), Input{1, big}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	s, log := sh("cat; echo end")
	if err := s.Handle(t.Context(), Input{1, big}); err != nil {
		t.Fatal(err)
	}
	if n := log.Len(); n < maxHandlerOutput/2 || n > maxHandlerOutput+1024 || !strings.Contains(log.String(), "end") {
		t.Errorf("logged %d bytes", n)
	}
}

// A timeout ends the handler and all that it started.
func TestScriptIsStopped(t *testing.T) {
	for _, trap := range []string{"", "trap '' TERM;"} {
		file := filepath.Join(t.TempDir(), "pid")
		s, _ := sh(trap + "setsid sleep 1000 & echo $! > " + file + "; wait")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for {
				if data, _ := os.ReadFile(file); bytes.HasSuffix(data, []byte("\n")) {
					cancel(errTimeout)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if err := s.Handle(ctx, Input{1, []byte("x\n")}); !errors.Is(err, errTimeout) {
			t.Errorf("%v", err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("%q: %d is there", trap, pid)
		}
	}
	// One that ends well when it is told to has delivered.
	file := filepath.Join(t.TempDir(), "ready")
	s, _ := sh("trap 'exit 0' TERM; echo > " + file + "; while :; do sleep 0.01; done")
	s.killTimeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(file); err == nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := s.Handle(ctx, Input{}); err != nil {
		t.Error(err)
	}
}

func TestHTTPHandler(t *testing.T) {
	var got string
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprint(r.Method, r.URL.Path, r.Header.Get("X-Consul-Index"), r.Header.Get("Content-Type"), r.Header["A"], string(body))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "because")
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	for _, h := range []HTTP{
		{Path: plain.URL + "/x", Header: map[string][]string{"a": {"1", "2"}}},
		{Path: secure.URL + "/x", Header: map[string][]string{"a": {"1", "2"}}, TLSSkipVerify: true},
	} {
		p := newHTTPHandler(&h)
		defer p.client.CloseIdleConnections()
		if err := p.Handle(t.Context(), Input{7, []byte("[]\n")}); err != nil || got != "POST/x7application/json[1 2][]\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	strict := newHTTPHandler(&HTTP{Path: secure.URL})
	if err := strict.Handle(t.Context(), Input{}); err == nil {
		t.Error("a certificate of nobody was good enough")
	}
	status = http.StatusTeapot
	put := newHTTPHandler(&HTTP{Path: plain.URL, Method: "PUT"})
	defer put.client.CloseIdleConnections()
	if err := put.Handle(t.Context(), Input{}); err == nil || !strings.Contains(err.Error(), "418") || !strings.Contains(err.Error(), "because") || !strings.HasPrefix(got, "PUT") {
		t.Errorf("%q, %v", got, err)
	}
}
