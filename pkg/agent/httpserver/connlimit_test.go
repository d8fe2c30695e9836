package httpserver

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/pkg/agent/conntable"
	"github.com/muster-dev/muster/pkg/agent/httpapi"
)

func TestConnLimit(t *testing.T) {
	limit := NewConnLimit(2)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limit.Listener(inner)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	get := func() (net.Conn, *http.Response) {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return conn, resp
	}
	first, resp := get()
	if resp.StatusCode != 200 {
		t.Fatalf("first: %d", resp.StatusCode)
	}
	second, resp := get()
	if resp.StatusCode != 200 {
		t.Fatalf("second: %d", resp.StatusCode)
	}
	third, resp := get()
	body, _ := io.ReadAll(resp.Body)
	const text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
	if resp.StatusCode != 429 || string(body) != text || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("third: %d %q %v", resp.StatusCode, body, resp.Header)
	}
	third.Close()
	limit.Set(3)
	fourth, resp := get()
	if resp.StatusCode != 200 {
		t.Errorf("after the limit was raised: %d", resp.StatusCode)
	}
	limit.Set(2)
	for _, conn := range []net.Conn{first, second, fourth} {
		conn.Close()
	}
	// What was closed counts no more; the server notices in its own time.
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, resp := get()
		conn.Close()
		if resp.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("closed connections still count")
		}
	}
	srv.Close()
	<-served
	if err := ln.Close(); err == nil {
		t.Error("the listener was still open after the server closed")
	}
}

// Who is refused in the middle of a request gets the end of the answer with it,
// not half a second later.
func TestRefusalEndsAtOnce(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(NewConnLimit(2).Listener(inner)) }()
	conn, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nxxxx")
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), " 413 ") {
		t.Errorf("%q, %v", got, err)
	}
	if took := time.Since(began); took > 400*time.Millisecond {
		t.Errorf("the end came after %v", took)
	}
	srv.Close()
	<-served
}

// A client that takes nothing in loses its connection, also where no answer is
// large; a handler that sets a time of its own gets that.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, given := range []time.Duration{0, time.Second} {
			near, far := net.Pipe()
			inside, err := conntable.New(conntable.Limits{}).Add(near)
			if err != nil {
				t.Fatal(err)
			}
			conn := &limitedConn{Conn: inside}
			if given != 0 {
				_ = conn.SetWriteDeadline(time.Now().Add(given))
			}
			began := time.Now()
			_, err = conn.Write([]byte("small"))
			took := time.Since(began)
			if !errors.Is(err, os.ErrDeadlineExceeded) || given != 0 && took != given || given == 0 && (took < httpapi.WriteGrace || took > 2*httpapi.WriteGrace) {
				t.Errorf("given %v: %v after %v", given, err, took)
			}
			_ = conn.SetWriteDeadline(time.Time{})
			go func() { _, _ = io.Copy(io.Discard, far) }()
			if _, err := conn.Write([]byte("small")); err != nil {
				t.Errorf("given %v: once the client reads: %v", given, err)
			}
			_ = conn.Close()
			_ = far.Close()
		}
	})
}

func TestRefusalSaysWhichLimit(t *testing.T) {
	for _, c := range []struct {
		why  error
		want string
	}{
		{conntable.ErrAddress, "HTTP/1.1 429 "},
		{conntable.ErrTotal, "HTTP/1.1 503 "},
	} {
		near, far := net.Pipe()
		ln := &limitedListener{lingering: make(chan struct{}, 1)}
		ln.refuse(near, c.why)
		got := make([]byte, len(c.want))
		if _, err := io.ReadFull(far, got); err != nil || string(got) != c.want {
			t.Errorf("%v was answered %q, %v", c.why, got, err)
		}
		far.Close()
		ln.wg.Wait()
	}
}
