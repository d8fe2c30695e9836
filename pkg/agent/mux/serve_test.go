package mux

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestManyLongPollsShareOneConnection, and all are answered when the server stops.
func TestManyLongPollsShareOneConnection(t *testing.T) {
	const polls = 600
	var waiting atomic.Int32
	var accepted countingListener
	p := start(t, func(c *Config) { accepted.Listener = c.Listener; c.Listener = &accepted },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			waiting.Add(1)
			<-r.Context().Done()
			fmt.Fprint(w, "woken")
		}))
	client := p.client(t)
	var answers sync.WaitGroup
	var bad atomic.Int32
	for range polls {
		answers.Go(func() {
			if got, err := get(client, p.addr, "/"); got != "HTTP/2.0 woken" {
				bad.Add(1)
				t.Logf("%q, %v", got, err)
			}
		})
	}
	until(t, "all polls wait", func() bool { return waiting.Load() == polls })
	if n := accepted.n.Load(); n != 1 {
		t.Errorf("%d long polls took %d connections", polls, n)
	}
	begun := time.Now()
	p.stop()
	if took := time.Since(begun); took > testTimeout/2 {
		t.Errorf("the stop took %v", took)
	}
	answers.Wait()
	if n := bad.Load(); n != 0 {
		t.Errorf("%d of %d long polls were cut off", n, polls)
	}
}

// TestIdleConnectionsDoNotHoldTheStop: the library waits a second for each.
func TestIdleConnectionsDoNotHoldTheStop(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	if _, err := get(p.client(t), p.addr, "/"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	p.stop()
	if took := time.Since(begun); took > 700*time.Millisecond {
		t.Errorf("the stop took %v", took)
	}
}

// TestStuckHandlerDoesNotHoldTheStop: its connection is closed after the drain.
func TestStuckHandlerDoesNotHoldTheStop(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	p := start(t, nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}))
	client := p.client(t)
	failed := make(chan error, 1)
	go func() {
		_, err := get(client, p.addr, "/")
		failed <- err
	}()
	<-entered
	begun := time.Now()
	p.stop()
	took := time.Since(begun)
	close(release)
	if took < drainTimeout || took > drainTimeout+testTimeout/2 {
		t.Errorf("the stop took %v, want %v", took, drainTimeout)
	}
	if err := <-failed; err == nil {
		t.Error("an answer from a handler that never gave one")
	}
}

// TestHungUpClientFreesTheHandler: law 9.
func TestHungUpClientFreesTheHandler(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	p := start(t, nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))
	client := p.client(t)
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-entered
		hangUp()
	}()
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
	<-left
}

// TestSilentServerIsFoundOut: packets stop, nobody closes; a long poll fails
// after two ping times instead of never.
func TestSilentServerIsFoundOut(t *testing.T) {
	entered := make(chan struct{})
	p := start(t, nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	relay := newRelay(t, p.addr)
	client := p.client(t)
	failed := make(chan error, 1)
	go func() {
		_, err := get(client, relay.addr, "/")
		failed <- err
	}()
	<-entered
	begun := time.Now()
	relay.freeze()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("an answer through a frozen relay")
		}
		if took := time.Since(begun); took < pingTimeout {
			t.Errorf("gave up after %v already: %v", took, err)
		}
	case <-time.After(testTimeout):
		t.Errorf("still waiting after %v", testTimeout)
	}
}

type countingListener struct {
	net.Listener
	n atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// relay passes bytes on until it is frozen.
type relay struct {
	addr   string
	frozen atomic.Bool
	gate   atomic.Pointer[<-chan struct{}]
}

// hold keeps new connections waiting until the channel is closed.
func (r *relay) hold(release <-chan struct{}) { r.gate.Store(&release) }

func (r *relay) freeze() { r.frozen.Store(true) }

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: ln.Addr().String()}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				return
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			if gate := r.gate.Load(); gate != nil {
				<-*gate
			}
			all.Go(func() { _, _ = io.Copy(r.writer(near), far) })
			all.Go(func() { _, _ = io.Copy(r.writer(far), near) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return r
}

func (r *relay) writer(w io.Writer) io.Writer { return &frozenWriter{r, w} }

type frozenWriter struct {
	r *relay
	w io.Writer
}

func (f *frozenWriter) Write(p []byte) (int, error) {
	if f.r.frozen.Load() {
		return len(p), nil
	}
	return f.w.Write(p)
}
