package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// TestBrokenWriteOnServerPort: over the connections that agents really use, a
// write whose connection breaks is not sent a second time.
func TestBrokenWriteOnServerPort(t *testing.T) {
	identity, err := mux.LoadIdentity(mux.Files{}, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	var arrived atomic.Int32
	port := servePort(t, identity, func(http.ResponseWriter, *http.Request) {
		arrived.Add(1)
		panic(http.ErrAbortHandler)
	})
	transport := mux.NewDialer(identity, 5*time.Second).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	f := New(Config{
		Transport: transport, Servers: func() []string { return []string{port} }, HoldTimeout: time.Second, Logger: logx.Discard(),
	})
	for name, send := range map[string]func(http.ResponseWriter, *http.Request) error{
		"to a server":   func(w http.ResponseWriter, r *http.Request) error { return f.ToServer(w, r, false, 1) },
		"to the leader": func(w http.ResponseWriter, r *http.Request) error { return f.ToLeader(w, r, false, port) },
	} {
		arrived.Store(0)
		err := send(httptest.NewRecorder(), newRequest("PUT", "/v1/kv/a", "x"))
		if !errors.Is(err, api.ErrUnknownWrite) {
			t.Errorf("%s: error %v, want %s", name, err, api.ErrUnknownWrite)
		}
		if n := arrived.Load(); n != 1 {
			t.Errorf("%s: the write was sent %d times", name, n)
		}
	}
}

// servePort runs a server port and returns its address.
func servePort(t testing.TB, identity *mux.Identity, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := mux.New(mux.Config{Listener: ln, Identity: identity, HandshakeTimeout: 5 * time.Second, MaxHandshakes: 64, MaxConns: 1024, Logger: logx.Discard()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- port.Run(ctx) }()
	go func() { ended <- mux.ServeHTTP(ctx, port.HTTP(), h, logx.Discard()) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	return ln.Addr().String()
}

// BenchmarkForward is what a request costs that is sent on: both ends of the server
// port are in this process.
func BenchmarkForward(b *testing.B) {
	identity, err := mux.LoadIdentity(mux.Files{}, logx.Discard())
	if err != nil {
		b.Fatal(err)
	}
	port := servePort(b, identity, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "true")
	})
	transport := mux.NewDialer(identity, 5*time.Second).Transport()
	b.Cleanup(transport.CloseIdleConnections)
	f := New(Config{
		Transport: transport, Servers: func() []string { return []string{port} }, HoldTimeout: time.Second, Logger: logx.Discard(),
	})
	for name, send := range map[string]func(w http.ResponseWriter) error{
		"stale read": func(w http.ResponseWriter) error {
			return f.ToServer(w, httptest.NewRequest("GET", "/v1/kv/a?stale", nil), true, 1)
		},
		"write": func(w http.ResponseWriter) error {
			return f.ToLeader(w, newRequest("PUT", "/v1/kv/a", "value"), false, port)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := send(httptest.NewRecorder()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
