package mux

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestOneDialFailsForAllWhoWait: a server that accepts and then says nothing
// costs one dial timeout, not one for each request.
func TestOneDialFailsForAllWhoWait(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after the server's end
	mute, conns := muteServer(t)
	tr := NewDialer(identity(t, Files{}), time.Second).Transport()
	var all sync.WaitGroup
	begun := time.Now()
	for range 20 {
		all.Go(func() {
			req, _ := http.NewRequest(http.MethodPut, "https://"+mute+"/", strings.NewReader("body"))
			resp, err := tr.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), mute) {
				t.Errorf("%v, want an error that names %s", err, mute)
			}
		})
	}
	all.Wait()
	if took := time.Since(begun); took > 10*time.Second { // 20 s if one after the other
		t.Errorf("took %v", took)
	}
	if n := conns(); n > 10 {
		t.Errorf("%d dials", n)
	}
	tr.mu.Lock() // the attempt says that it is over before it lets go
	defer tr.mu.Unlock()
	if len(tr.hosts) != 0 {
		t.Errorf("addresses left behind: %v", tr.hosts)
	}
}

// TestFirstRequestGivesUp: the others must not fail with it.
func TestFirstRequestGivesUp(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	release := make(chan struct{})
	slow := newRelay(t, p.addr)
	slow.hold(release)
	tr := NewDialer(p.id, testTimeout).Transport()
	defer tr.CloseIdleConnections()

	ctx, giveUp := context.WithCancel(t.Context())
	firstDone := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+slow.addr+"/x", nil)
		_, err := tr.RoundTrip(req)
		firstDone <- err
	}()
	until(t, "the first request is dialling", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		h := tr.hosts[slow.addr]
		return h != nil && h.dial != nil
	})
	answer := make(chan string, 1)
	go func() {
		got, err := get(&http.Client{Transport: tr}, slow.addr, "/x")
		if err != nil {
			got = err.Error()
		}
		answer <- got
	}()
	giveUp()
	if err := <-firstDone; !errors.Is(err, context.Canceled) {
		t.Errorf("the first request: %v", err)
	}
	close(release)
	if got := <-answer; got != "HTTP/2.0 hello /x" {
		t.Errorf("the second request: %s", got)
	}
}

// TestReconnects: a transport whose connection was lost dials again.
func TestReconnects(t *testing.T) {
	p := start(t, nil, http.HandlerFunc(sayHello))
	client := p.client(t)
	for range 3 {
		until(t, "an answer", func() bool {
			got, err := get(client, p.addr, "/x")
			return err == nil && got == "HTTP/2.0 hello /x"
		})
		p.mux.conns.CloseAll()
	}
}

// muteServer accepts connections and never says a word.
func muteServer(t *testing.T) (addr string, accepted func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
	return ln.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(conns)
	}
}
