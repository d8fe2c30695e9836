package mux

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/logx"
)

// testTimeout is for conditions that hold at once on an idle machine.
const testTimeout = 20 * time.Second

// port is a running Mux with an echo behind raft and a handler behind HTTP.
type port struct {
	addr string
	mux  *Mux
	id   *Identity
	stop func() // ends HTTP, then the port, and waits
}

func start(t *testing.T, change func(*Config), handler http.Handler) *port {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) }) // runs after the stop below
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Listener: ln, HandshakeTimeout: testTimeout, MaxHandshakes: 256, MaxConns: 8192, Logger: logx.Discard()}
	if change != nil {
		change(&cfg)
	}
	if cfg.Identity == nil {
		cfg.Identity = identity(t, Files{})
	}
	m := New(cfg)
	p := &port{addr: ln.Addr().String(), mux: m, id: cfg.Identity}

	muxCtx, stopMux := context.WithCancel(context.Background())
	httpCtx, stopHTTP := context.WithCancel(context.Background())
	var muxDone, rest sync.WaitGroup
	muxDone.Go(func() {
		if err := m.Run(muxCtx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	rest.Go(func() { echo(m.Raft()) })
	httpDone := make(chan struct{})
	go func() {
		defer close(httpDone)
		if err := ServeHTTP(httpCtx, m.HTTP(), handler, logx.Discard()); err != nil {
			t.Errorf("ServeHTTP: %v", err)
		}
	}()
	p.stop = sync.OnceFunc(func() {
		stopHTTP()
		<-httpDone
		stopMux()
		muxDone.Wait()
		rest.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

// echo answers each line, until the listener closes.
func echo(ln net.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		})
	}
}

func identity(t *testing.T, files Files) *Identity {
	t.Helper()
	id, err := LoadIdentity(files, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *port) client(t *testing.T) *http.Client {
	tr := NewDialer(p.id, testTimeout).Transport()
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(c *http.Client, addr, path string) (string, error) {
	resp, err := c.Get("https://" + addr + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Proto + " " + string(body), err
}

func sayHello(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.URL.Path) }

// wantEcho shows that raft's side of the port answers.
func (p *port) wantEcho(t *testing.T) {
	t.Helper()
	conn, err := NewDialer(p.id, testTimeout).DialRaft(t.Context(), p.addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	fmt.Fprintln(conn, "ping")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "ping\n" {
		t.Errorf("raft side answered %q, %v", line, err)
	}
}

func (p *port) wantHello(t *testing.T) {
	t.Helper()
	if got, err := get(p.client(t), p.addr, "/x"); got != "HTTP/2.0 hello /x" {
		t.Errorf("HTTP side answered %q, %v", got, err)
	}
}

func TestBothProtocolsOnOnePort(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	p.wantHello(t)
	p.wantEcho(t)
	p.wantHello(t)
}

func TestWrongProtocolsAreDropped(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	for name, protos := range map[string][]string{"none": nil, "other": {"http/1.1"}} {
		conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err == nil { // the client's side of the handshake may end first
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil {
			t.Errorf("ALPN %s: the connection stays", name)
		}
	}
	if _, err := tls.Dial("tcp", p.addr, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{ProtoRaft}, MaxVersion: tls.VersionTLS12,
	}); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	p.wantHello(t)
}

// TestNoiseHurtsNobody: random bytes and handshakes that never go on, more than
// the cap, while others are served.
func TestNoiseHurtsNobody(t *testing.T) {
	p := start(t, func(c *Config) {
		c.HandshakeTimeout = time.Hour // only the cap can help
		c.MaxHandshakes = 8
	}, http.HandlerFunc(sayHello))
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	var silent []net.Conn
	for i := range 32 {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			_, _ = conn.Write(noise[i*64:])
		} else {
			silent = append(silent, conn)
		}
		p.wantHello(t)
	}
	p.wantEcho(t)
	// The oldest silent ones had to give way.
	_ = silent[0].SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest handshake is still open: %v", err)
	}
}

func TestHandshakeDeadline(t *testing.T) {
	p := start(t, func(c *Config) { c.HandshakeTimeout = 50 * time.Millisecond }, http.HandlerFunc(sayHello))
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a silent connection was not closed: %v", err)
	}
}

// TestUnservedProtocolIsDropped: raft has stopped, HTTP goes on.
func TestUnservedProtocolIsDropped(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	_ = p.mux.Raft().Close()
	conn, err := NewDialer(p.id, testTimeout).DialRaft(t.Context(), p.addr)
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if err == nil || isTimeout(err) {
		t.Errorf("the connection stays: %v", err)
	}
	p.wantHello(t)
}

func TestConnectionsPerIP(t *testing.T) {
	p := start(t, func(c *Config) { c.MaxConnsPerIP = 2 }, http.HandlerFunc(sayHello))
	d := NewDialer(p.id, testTimeout)
	var open []net.Conn
	for range 2 {
		conn, err := d.DialRaft(t.Context(), p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	if conn, err := d.DialRaft(t.Context(), p.addr); err == nil {
		conn.Close()
		t.Error("a third connection was accepted")
	}
	_ = open[0].Close()
	until(t, "a place is free again", func() bool {
		conn, err := d.DialRaft(t.Context(), p.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// A raft connection on which nothing arrives is closed; one that was used may be idle as
// long as it likes.
func TestRaftConnectionsThatSayNothing(t *testing.T) {
	const limit = 200 * time.Millisecond
	p := start(t, func(c *Config) { c.HandshakeTimeout = limit }, http.HandlerFunc(sayHello))
	d := NewDialer(p.id, testTimeout)
	dial := func() net.Conn {
		conn, err := d.DialRaft(t.Context(), p.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(testTimeout))
		return conn
	}
	speaks, silent := dial(), dial()
	echoed := func() error {
		_, _ = speaks.Write([]byte("a"))
		_, err := io.ReadFull(speaks, make([]byte, 1))
		return err
	}
	if err := echoed(); err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the silent one stays: %v", err)
	}
	if err := echoed(); err != nil { // as long after its first word as the other had for one
		t.Errorf("idle after it was used: %v", err)
	}
}

func TestConnectionsInAll(t *testing.T) {
	p := start(t, func(c *Config) { c.MaxConns = 1 }, http.HandlerFunc(sayHello))
	d := NewDialer(p.id, testTimeout)
	first, err := d.DialRaft(t.Context(), p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if conn, err := d.DialRaft(t.Context(), p.addr); err == nil {
		conn.Close()
		t.Error("a second connection was accepted")
	}
}

// TestStopClosesWhatIsOpen: the test's goleak check is its second half.
func TestStopClosesWhatIsOpen(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	conn, err := NewDialer(p.id, testTimeout).DialRaft(t.Context(), p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	silent, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p.stop()
	for name, c := range map[string]net.Conn{"raft": conn, "silent": silent} {
		_ = c.SetReadDeadline(time.Now().Add(testTimeout))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%s connection after the stop: %v", name, err)
		}
	}
	if c, err := net.Dial("tcp", p.addr); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
}

func TestRunReportsALostListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := New(Config{Listener: ln, Identity: identity(t, Files{}), HandshakeTimeout: testTimeout, Logger: logx.Discard()})
	_ = ln.Close()
	if err := m.Run(t.Context()); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("Run: %v", err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// until waits for a condition that some other goroutine brings about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTimeout); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", testTimeout, what)
		}
	}
}
