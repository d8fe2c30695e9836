package loopback

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func to(h http.HandlerFunc) *http.Client { return &http.Client{Transport: &Transport{Handler: h}} }

// send asks for http://h/path; the answer's body is closed after the test.
func send(t *testing.T, ctx context.Context, c *http.Client, method, path string, body io.Reader) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://h"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func TestClient(t *testing.T) {
	c, err := client.New(client.Config{Transport: &Transport{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/status/leader":
			io.WriteString(w, `"a:1"`)
		case "/v1/status/peers":
			panic(http.ErrAbortHandler)
		case "/v1/kv/a":
			http.Error(w, api.TextNoLeader, http.StatusInternalServerError)
		default:
			<-r.Context().Done()
		}
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if leader, err := c.StatusLeader(t.Context()); err != nil || leader != "a:1" {
		t.Errorf("got %q, %v", leader, err)
	}
	if _, err := c.StatusPeers(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an answer that broke midway: %v", err)
	}
	if _, _, err := c.KVGet(t.Context(), "a", nil); !errors.Is(err, api.ErrNoLeader) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Nodes(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The handler sees what a server would show it, and the caller what a client would
// get.
func TestRequestAndAnswer(t *testing.T) {
	c := to(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = "changed" // which is the handler's own
		r.Header.Set("X", "changed")
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Seen", fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.ContentLength, " ", r.RemoteAddr))
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
		w.Header().Set("Seen", "too late")
		_, _ = w.Write(body)
	})
	for length, body := range map[int64]io.Reader{5: strings.NewReader("value"), -1: io.MultiReader(strings.NewReader("value"))} {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://h/v1/kv/a%2Fb?flags=3", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := fmt.Sprint("PUT /v1/kv/a%2Fb?flags=3 ", length, " 127.0.0.1:0")
		if err != nil || resp.StatusCode != http.StatusTeapot || resp.Status != "418 I'm a teapot" || resp.Header.Get("Seen") != want || string(got) != "value" {
			t.Errorf("%s %v %q, %v; want %q", resp.Status, resp.Header, got, err, want)
		}
		if req.URL.RawQuery != "flags=3" || req.Header.Get("X") != "" {
			t.Errorf("the handler has changed the caller's request: %v %v", req.URL, req.Header)
		}
	}
}

func TestContentLength(t *testing.T) {
	for header, want := range map[string]int64{"3": 3, "": -1, "x": -1, "-7": -1} {
		resp, err := send(t, t.Context(), to(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", header)
			io.WriteString(w, "abc")
		}), "GET", "/", nil)
		if err != nil || resp.ContentLength != want {
			t.Errorf("%q: %d, %v, want %d", header, resp.ContentLength, err, want)
		}
	}
	resp, err := send(t, t.Context(), to(func(http.ResponseWriter, *http.Request) {}), "GET", "/", nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("a handler that writes nothing: %v", err)
	}
	if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Both bodies are read while they are written.
func TestBothWaysStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, writer := io.Pipe()
		c := to(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				time.Sleep(time.Second)
				fmt.Fprintln(w, "got", lines.Text())
			}
		})
		resp, err := send(t, t.Context(), c, "POST", "/", up)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		began := time.Now()
		for i := range 3 {
			fmt.Fprintln(writer, i)
			if want := fmt.Sprint("got ", i); !lines.Scan() || lines.Text() != want {
				t.Fatalf("%q, %v, want %q", lines.Text(), lines.Err(), want)
			}
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the third line came after %v", took)
		}
		_ = writer.Close()
		if lines.Scan() || lines.Err() != nil {
			t.Errorf("after the end: %q, %v", lines.Text(), lines.Err())
		}
	})
}

// Whatever the handler waits for when the request ends, it is told, and has returned
// when the caller goes on.
func TestWhatEndsTheHandler(t *testing.T) {
	waits := map[string]http.HandlerFunc{
		"for the context": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"for a body":      func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		"for a slow reader": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, "more"); err != nil {
					return
				}
			}
		},
	}
	gone := errors.New("the caller has gone")
	for name, wait := range waits {
		for _, begun := range []bool{false, true} {
			if !begun && name == "for a slow reader" {
				continue // it begins by writing
			}
			for _, how := range []string{"cancel", "close"} {
				if !begun && how == "close" {
					continue // there is nothing to close yet
				}
				synctest.Test(t, func(t *testing.T) {
					returned := false
					c := &Transport{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if begun {
							w.WriteHeader(http.StatusOK)
						}
						wait(w, r)
						returned = true
					})}
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					body, writer := io.Pipe()
					defer writer.Close()
					req, err := http.NewRequestWithContext(ctx, "PUT", "http://h/", body)
					if err != nil {
						t.Fatal(err)
					}
					if how == "cancel" {
						time.AfterFunc(time.Second, func() { cancel(gone) })
					}
					resp, err := c.RoundTrip(req)
					if !begun {
						if !errors.Is(err, gone) || !returned {
							t.Errorf("%s, not begun: %v, returned: %v", name, err, returned)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if how == "cancel" {
						if _, err := io.ReadAll(sleepy{resp.Body}); !errors.Is(err, gone) {
							t.Errorf("%s: read %v", name, err)
						}
					}
					if err := resp.Body.Close(); err != nil || !returned {
						t.Errorf("%s, %s: %v, returned: %v", name, how, err, returned)
					}
				})
			}
		}
	}
}

// sleepy reads once in a while.
type sleepy struct{ io.Reader }

func (s sleepy) Read(p []byte) (int, error) {
	time.Sleep(time.Minute)
	return s.Reader.Read(p)
}

func TestPanicCostsTheRequest(t *testing.T) {
	for _, c := range []struct {
		with any
		want string
	}{{"bad", "the handler of GET /x panicked: bad"}, {http.ErrAbortHandler, io.ErrUnexpectedEOF.Error()}} {
		_, err := send(t, t.Context(), to(func(http.ResponseWriter, *http.Request) { panic(c.with) }), "GET", "/x", nil)
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("before the answer: %v, want %q", err, c.want)
		}
		resp, err := send(t, t.Context(), to(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half")
			panic(c.with)
		}), "GET", "/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err == nil || err.Error() != c.want || string(body) != "half" {
			t.Errorf("midway: %q, %v, want %q", body, err, c.want)
		}
	}
}

// The request's body is closed once, whatever becomes of it, as net/http promises.
func TestBodyIsClosed(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"answers": func(http.ResponseWriter, *http.Request) {},
		"panics":  func(http.ResponseWriter, *http.Request) { panic("bad") },
		"waits":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if name == "waits" {
			cancel()
		}
		body := &counted{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(ctx, "PUT", "http://h/", body)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := (&Transport{Handler: handler}).RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
		if body.closed != 1 {
			t.Errorf("%s: closed %d times", name, body.closed)
		}
		cancel()
	}
}

type counted struct {
	io.Reader
	closed int
}

func (c *counted) Close() error {
	c.closed++
	return nil
}

func BenchmarkRoundTrip(b *testing.B) {
	b.ReportAllocs()
	c := to(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `"a:1"`) })
	for b.Loop() {
		resp, err := c.Get("http://h/")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}
